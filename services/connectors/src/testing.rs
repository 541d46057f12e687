//! A real OpenLDAP server for tests, on a free port of the loopback, stopped by its own process id when dropped.
//!
//! One database, three principals: `reader` may read everything and change nothing, `writer` may also change who is a
//! member of what, `admin` may do everything (it is for the test itself). Loaded with slapadd, so malformed LDIF fails there
//! with slapadd's own words. Nothing here is used outside tests.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::config::{LdapBind, LdapConfig};
use crate::ldap::dn;

const SCHEMA_DIRECTORY: &str = "/etc/ldap/schema";
const START_LIMIT: Duration = Duration::from_secs(20);
const START_ATTEMPTS: usize = 5;

/// What the planetexpress directory calls a group: Active Directory's class, whose members are optional.
const GROUP_SCHEMA: &str = "\
attributetype ( 1.2.840.113556.1.4.750 NAME 'groupType' \
EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.8 NAME 'group' SUP top STRUCTURAL \
MUST ( groupType $ cn ) MAY ( member $ description $ owner ) )
";

/// How a test directory is set up.
#[derive(Debug, Clone)]
pub struct SlapdOptions {
    /// The suffix, for example `dc=example,dc=com`. Its own entry is made when the LDIF has none.
    pub suffix: String,
    /// Texts in LDIF, loaded in this order.
    pub ldif: Vec<String>,
    /// Lines put in front of the access rules, for tests of what a principal may not.
    pub access: String,
    /// Lines put into the database section, for example `sizelimit 10`; limits given here count before the usual ones.
    pub database: String,
}

impl SlapdOptions {
    /// An empty directory.
    #[must_use]
    pub fn new(suffix: impl Into<String>) -> Self {
        Self {
            suffix: suffix.into(),
            ldif: Vec::new(),
            access: String::new(),
            database: String::new(),
        }
    }

    /// Adds a text in LDIF.
    #[must_use]
    pub fn ldif(mut self, text: impl Into<String>) -> Self {
        self.ldif.push(text.into());
        self
    }

    /// Puts access rules before the usual ones.
    #[must_use]
    pub fn access(mut self, rules: impl Into<String>) -> Self {
        self.access = rules.into();
        self
    }

    /// Adds lines to the database section.
    #[must_use]
    pub fn database(mut self, lines: impl Into<String>) -> Self {
        self.database = lines.into();
        self
    }
}

/// A running server.
#[derive(Debug)]
pub struct Slapd {
    process: Child,
    address: SocketAddr,
    suffix: String,
    directory: TempDir,
}

impl Slapd {
    /// Loads the LDIF and starts the server.
    ///
    /// # Errors
    /// slapd is not installed (run ./tests/run, which installs it), the LDIF is malformed, or the server does not answer.
    pub fn start(options: &SlapdOptions) -> io::Result<Self> {
        let directory = TempDir::with_prefix("counterfoil-slapd-")?;
        let path = directory.path();
        for name in ["reader", "writer", "admin"] {
            fs::write(
                path.join(format!("{name}.password")),
                format!("{name}-of-the-test\n"),
            )?;
        }
        fs::create_dir(path.join("db"))?;
        fs::write(path.join("group.schema"), GROUP_SCHEMA)?;
        fs::write(path.join("slapd.conf"), configuration(path, options))?;
        fs::write(path.join("load.ldif"), loaded(options))?;
        let load = [path.join("slapd.conf"), path.join("load.ldif")];
        let arguments = [
            "-q".as_ref(),
            "-f".as_ref(),
            load[0].as_os_str(),
            "-l".as_ref(),
            load[1].as_os_str(),
        ];
        succeeded(
            "slapadd",
            Command::new(program("slapadd")?).args(arguments).output()?,
        )?;
        let (process, address) = spawn(path)?;
        Ok(Self {
            process,
            address,
            suffix: options.suffix.clone(),
            directory,
        })
    }

    /// `ldap://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The suffix everything lies under.
    #[must_use]
    pub fn base_dn(&self) -> &str {
        &self.suffix
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The principal that may read.
    #[must_use]
    pub fn reader(&self) -> LdapBind {
        self.bind("reader")
    }

    /// The principal that may change memberships.
    #[must_use]
    pub fn writer(&self) -> LdapBind {
        self.bind("writer")
    }

    /// The principal that may do everything.
    #[must_use]
    pub fn admin(&self) -> LdapBind {
        self.bind("admin")
    }

    fn bind(&self, name: &str) -> LdapBind {
        LdapBind {
            dn: format!("cn={name},{}", self.suffix),
            password_file: self.directory.path().join(format!("{name}.password")),
        }
    }

    /// A source over this server, with everything else by default.
    #[must_use]
    pub fn config(&self) -> LdapConfig {
        LdapConfig::new(
            self.url(),
            self.suffix.clone(),
            self.reader(),
            self.writer(),
        )
    }

    /// Applies LDIF change records as `admin`, as an administrator would out of band.
    ///
    /// # Errors
    /// What ldapmodify says.
    pub fn modify(&self, ldif: &str) -> io::Result<()> {
        let admin = self.admin();
        let file = self.directory.path().join("change.ldif");
        fs::write(&file, ldif)?;
        // ldapmodify takes the whole file as the password, line end and all.
        let password = fs::read_to_string(&admin.password_file)?;
        let output = Command::new(program("ldapmodify")?)
            .args([
                "-x",
                "-H",
                &self.url(),
                "-D",
                &admin.dn,
                "-w",
                password.trim_end(),
                "-f",
            ])
            .arg(&file)
            .output()?;
        succeeded("ldapmodify", output)
    }

    /// Stops the server where it stands: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Kills the server at once, as a power cut would.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let output = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .output()?;
        succeeded("kill", output)
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        // SIGKILL also ends a paused process. Both fail only when it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(path: &Path, options: &SlapdOptions) -> String {
    let mut text = String::new();
    for schema in ["core", "cosine", "inetorgperson", "nis", "openldap"] {
        let _ = writeln!(text, "include {SCHEMA_DIRECTORY}/{schema}.schema");
    }
    let own = path.display();
    let suffix = &options.suffix;
    let _ = write!(
        text,
        "include {own}/group.schema
pidfile {own}/slapd.pid
modulepath /usr/lib/ldap:/usr/lib/openldap
moduleload back_mdb
moduleload syncprov
access to dn.base=\"\" by * read
access to dn.base=\"cn=Subschema\" by * read
database mdb
suffix \"{suffix}\"
rootdn \"cn=admin,{suffix}\"
rootpw admin-of-the-test
directory {own}/db
maxsize 268435456
dbnosync
index objectClass,entryUUID,entryCSN eq
{}
access to attrs=userPassword by anonymous auth by * none
access to attrs=member,uniqueMember,memberUid
 by dn.exact=\"cn=writer,{suffix}\" write
 by dn.exact=\"cn=reader,{suffix}\" read
 by * none
access to *
 by dn.exact=\"cn=writer,{suffix}\" read
 by dn.exact=\"cn=reader,{suffix}\" read
 by anonymous auth
 by * none
{}
limits dn.exact=\"cn=reader,{suffix}\" size.prtotal=unlimited
limits dn.exact=\"cn=writer,{suffix}\" size.prtotal=unlimited
overlay syncprov
",
        options.access, options.database
    );
    text
}

fn loaded(options: &SlapdOptions) -> String {
    let suffix = &options.suffix;
    let mut text = String::new();
    if !options.ldif.iter().any(|ldif| defines(ldif, suffix)) {
        let first = suffix.split(',').next().unwrap_or(suffix);
        let value = first.split_once('=').map_or(first, |(_, value)| value);
        let _ = writeln!(
            text,
            "dn: {suffix}\nobjectClass: top\nobjectClass: organization\nobjectClass: dcObject\no: {value}\ndc: {value}\n"
        );
    }
    for ldif in &options.ldif {
        let _ = writeln!(text, "{}\n", ldif.trim_end());
    }
    for name in ["reader", "writer"] {
        let _ = writeln!(
            text,
            "dn: cn={name},{suffix}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: {name}\n\
             userPassword: {name}-of-the-test\n"
        );
    }
    text
}

/// Whether the LDIF holds the entry itself.
fn defines(ldif: &str, name: &str) -> bool {
    let wanted = dn::normalize(name).ok();
    ldif.lines()
        .filter_map(|line| line.strip_prefix("dn:"))
        .any(|found| wanted.is_some() && dn::normalize(found.trim()).ok() == wanted)
}

fn spawn(path: &Path) -> io::Result<(Child, SocketAddr)> {
    let slapd = program("slapd")?;
    for _ in 0..START_ATTEMPTS {
        // Somebody else may take the port before slapd does; then it exits and another one is tried.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut process = Command::new(&slapd)
            .args(["-d", "0", "-h", &format!("ldap://{address}/"), "-f"])
            .arg(path.join("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("slapd.log"))?)
            .spawn()?;
        if answers(&mut process, address)? {
            return Ok((process, address));
        }
        let _ = process.kill();
        process.wait()?;
    }
    let log = fs::read_to_string(path.join("slapd.log")).unwrap_or_default();
    Err(io::Error::other(format!("slapd does not start: {log}")))
}

fn answers(process: &mut Child, address: SocketAddr) -> io::Result<bool> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// slapd and slapadd live where an ordinary account's PATH does not look.
fn program(name: &str) -> io::Result<PathBuf> {
    let places = [
        "/usr/sbin",
        "/usr/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/libexec",
    ];
    let found = places
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let reason = format!("{name} is not installed; ./tests/run installs what the tests need (Debian: slapd ldap-utils)");
        io::Error::new(io::ErrorKind::NotFound, reason)
    })
}

fn succeeded(what: &str, output: Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{what}: {}: {}",
        output.status,
        words.trim()
    )))
}
