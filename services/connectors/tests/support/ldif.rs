//! A small directory with everything a directory can have: nested groups, each class of group, names that need escaping.
#![allow(dead_code, reason = "each test crate uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use counterfoil_connectors::testing::{Slapd, SlapdOptions};
use counterfoil_connectors::{LdapConfig, Reader, SourceConfig, Writer};

pub(crate) const BASE: &str = "dc=example,dc=com";

pub(crate) const PEOPLE: &str = "\
dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: cn=Amy Wong+sn=Kroker,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Amy Wong
sn: Kroker
mail: amy@example.com
uid: amy
manager: cn=Doe\\, Jane,ou=people,dc=example,dc=com
description: Intern

dn: cn=Doe\\, Jane,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Doe, Jane
sn: Doe
mail: jane.b@example.com
mail: jane.a@example.com
uid: jane

dn: cn=Star (*) \\5C Sky,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Star (*) \\ Sky
sn: Sky
uid: star
manager: cn=Nobody Here,ou=people,dc=example,dc=com

dn: cn=Robot,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Robot
sn: Robot
employeeType: Robot
";

pub(crate) const GROUPS: &str = "\
dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: cn=all,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: all
description: Everybody
owner: CN=doe\\2C jane,OU=People,DC=example,DC=com
member: cn=crew,ou=groups,dc=example,dc=com
member: cn=Doe\\, Jane,ou=people,dc=example,dc=com

dn: cn=crew,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: crew
member: sn=kroker+cn=AMY  wong,OU=people,dc=example,dc=com
member: cn=Star (*) \\\\ Sky,ou=people,dc=example,dc=com

dn: cn=unique,ou=groups,dc=example,dc=com
objectClass: groupOfUniqueNames
cn: unique
uniqueMember: cn=Robot,ou=people,dc=example,dc=com#'0101'B
uniqueMember: cn=Doe\\, Jane,ou=people,dc=example,dc=com

dn: cn=posix,ou=groups,dc=example,dc=com
objectClass: posixGroup
cn: posix
gidNumber: 100
memberUid: amy
memberUid: jane

dn: cn=ad,ou=groups,dc=example,dc=com
objectClass: group
cn: ad
groupType: 2
member: cn=Robot,ou=people,dc=example,dc=com

dn: cn=last,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: last
member: cn=Robot,ou=people,dc=example,dc=com
";

pub(crate) fn options() -> SlapdOptions {
    SlapdOptions::new(BASE).ldif(PEOPLE).ldif(GROUPS)
}

pub(crate) fn start(options: &SlapdOptions) -> Slapd {
    Slapd::start(options).unwrap()
}

pub(crate) fn source(config: &LdapConfig) -> SourceConfig {
    SourceConfig::Ldap(Box::new(config.clone()))
}

pub(crate) fn reader(config: &LdapConfig) -> Box<dyn Reader> {
    counterfoil_connectors::reader(&source(config)).unwrap()
}

pub(crate) fn writer(config: &LdapConfig) -> Box<dyn Writer> {
    counterfoil_connectors::writer(&source(config)).unwrap()
}
