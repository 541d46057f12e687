//! What conditions take away, and which texts are none.

use super::*;
use crate::model::{
    principal::{OrganizationKind, Principal, tests::customer_human},
    right::{DecisionAction, Scope},
};

/// 2026-11-22T06:00:00Z, a Sunday.
const NOW_MS: i64 = 1_795_327_200_000;

fn source(id: &str) -> Place {
    Place::Source(SourceId::stored(id.to_owned()))
}

fn act(principal: &Principal, action: DecisionAction) -> Act<'_> {
    Act {
        tenant: "acme",
        principal,
        action,
        now_ms: NOW_MS,
    }
}

fn provider_human(id: &str) -> Principal {
    Principal {
        organization_kind: OrganizationKind::Provider,
        ..customer_human(id)
    }
}

const PAYROLL: &str = r#"
    // Nobody of the provider touches payroll.
    @id("payroll-stays-inside")
    forbid (principal, action, resource == Counterfoil::Source::"payroll")
    when { principal.organization_kind != "CUSTOMER" };
    forbid (principal, action == Counterfoil::Action::"certify", resource)
    when { context.now > datetime("2027-01-01") };
"#;

#[test]
fn a_condition_takes_away_and_says_which_it_is() {
    let conditions = Conditions::parse(PAYROLL).unwrap();
    let (inside, outside) = (customer_human("ada"), provider_human("olga"));
    let review = DecisionAction::Review;
    assert!(
        conditions
            .asked(act(&inside, review))
            .forbid(&source("payroll"))
            .is_empty()
    );
    assert!(
        conditions
            .asked(act(&outside, review))
            .forbid(&source("crm"))
            .is_empty()
    );
    let why = conditions
        .asked(act(&outside, review))
        .forbid(&source("payroll"));
    assert_eq!(why, ["payroll-stays-inside"]);
    let certify = act(&inside, DecisionAction::Certify);
    assert!(conditions.asked(certify).forbid(&source("crm")).is_empty());
    let next_year = Act {
        now_ms: NOW_MS + 41 * 86_400_000,
        ..certify
    };
    assert_eq!(
        conditions.asked(next_year).forbid(&source("crm")),
        ["policy1"]
    );
}

#[test]
fn an_act_everywhere_is_forbidden_where_any_source_that_is_named_is() {
    let conditions = Conditions::parse(PAYROLL).unwrap();
    let olga = provider_human("olga");
    let everywhere = conditions
        .asked(act(&olga, DecisionAction::Review))
        .forbid(&Place::Everywhere);
    assert_eq!(everywhere, ["payroll-stays-inside"]);
    let named: Vec<&str> = conditions.sources().iter().map(SourceId::as_str).collect();
    assert_eq!(named, ["payroll"]);
}

#[test]
fn a_scope_is_narrowed_to_what_is_left_of_it() {
    let conditions = Conditions::parse(PAYROLL).unwrap();
    let (inside, olga) = (customer_human("ada"), provider_human("olga"));
    let of = |ids: &[&str]| -> Vec<SourceId> {
        ids.iter()
            .map(|id| SourceId::stored((*id).to_owned()))
            .collect()
    };
    let narrow = |who: &Principal, scope: Scope| {
        let mut why = Vec::new();
        let left = conditions
            .asked(act(who, DecisionAction::Review))
            .narrow(&scope, &mut why);
        (left, why.len())
    };
    let named = |ids: &[&str]| Scope::of(of(ids), false);
    assert_eq!(
        narrow(&olga, named(&["crm", "payroll"])),
        (Some((named(&["crm"]), vec![])), 1)
    );
    assert_eq!(narrow(&olga, named(&["payroll"])), (None, 1));
    assert_eq!(
        narrow(&olga, named(&["crm"])),
        (Some((named(&["crm"]), vec![])), 0)
    );
    assert_eq!(
        narrow(&olga, Scope::Everywhere),
        (Some((Scope::Everywhere, of(&["payroll"]))), 1)
    );
    assert_eq!(
        narrow(&inside, Scope::Everywhere),
        (Some((Scope::Everywhere, vec![])), 0)
    );
}

#[test]
fn where_all_but_some_is_forbidden_some_is_left() {
    let text = r#"forbid (principal, action, resource)
        unless { resource == Counterfoil::Source::"crm" || resource == Counterfoil::Source::"hr" };"#;
    let conditions = Conditions::parse(text).unwrap();
    let ada = customer_human("ada");
    let mut why = Vec::new();
    let review = act(&ada, DecisionAction::Review);
    let (left, taken) = conditions
        .asked(review)
        .narrow(&Scope::Everywhere, &mut why)
        .unwrap();
    let named = ["crm", "hr"].map(|id| SourceId::stored(id.to_owned()));
    assert_eq!((left, taken.len()), (Scope::Sources(named.to_vec()), 0));
    assert_eq!(why, ["policy0", "policy0"][..why.len()]);
    assert!(!why.is_empty());
}

#[test]
fn the_canonical_text_has_no_comments_and_comes_back_the_same() {
    let once = Conditions::parse(PAYROLL).unwrap();
    assert!(!once.text().contains("Nobody") && once.text().contains("payroll-stays-inside"));
    let twice = Conditions::parse(once.text()).unwrap();
    assert_eq!(once.text(), twice.text());
    let none = Conditions::parse(" // nothing at all ").unwrap();
    assert!(none.is_empty() && none.text().is_empty());
    assert!(
        none.asked(act(&customer_human("ada"), DecisionAction::Except))
            .forbid(&source("x"))
            .is_empty()
    );
}

#[test]
fn roles_and_the_tenant_can_be_named() {
    let text = r#"forbid (principal in Counterfoil::Role::"auditor", action, resource in Counterfoil::Tenant::"acme");"#;
    let conditions = Conditions::parse(text).unwrap();
    let mut ada = customer_human("ada");
    ada.roles = vec!["reviewer".to_owned()];
    assert!(
        conditions
            .asked(act(&ada, DecisionAction::Export))
            .forbid(&source("crm"))
            .is_empty()
    );
    ada.roles.push("auditor".to_owned());
    assert_eq!(
        conditions
            .asked(act(&ada, DecisionAction::Export))
            .forbid(&source("crm")),
        ["policy0"]
    );
    assert_eq!(
        conditions
            .asked(act(&ada, DecisionAction::Export))
            .forbid(&Place::Everywhere),
        ["policy0"]
    );
    let elsewhere = Act {
        tenant: "beta",
        ..act(&ada, DecisionAction::Export)
    };
    assert!(
        conditions
            .asked(elsewhere)
            .forbid(&source("crm"))
            .is_empty()
    );
}

#[test]
fn what_could_give_or_means_nothing_is_refused_with_its_reason() {
    let long = format!("// {}", "x".repeat(BYTES_MAX));
    for (text, reason) in [
        ("permit (principal, action, resource);", "must forbid"),
        (
            "forbid (principal == ?principal, action, resource);",
            "templates",
        ),
        ("forbid (principal, action, resource)", "line 1"),
        (
            "\n\nforbid (principal, action, resource) when { principal.salary > 3 };",
            "salary",
        ),
        (
            "forbid (principal, action == Counterfoil::Action::\"delete\", resource);",
            "delete",
        ),
        (
            "@note(\"Ada wants this\") forbid (principal, action, resource);",
            "annotation",
        ),
        (
            "@id(\"Ada wants this\") forbid (principal, action, resource);",
            "annotation",
        ),
        (
            "forbid (principal, action, resource == Counterfoil::Source::\"*\");",
            "no source is called",
        ),
        (&long, "16 KiB"),
    ] {
        let error = Conditions::parse(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

/// What would be deep, if it were read: chains, brackets, conditionals, sets and records.
fn deep(levels: usize) -> Vec<String> {
    let when = |expression: String| {
        format!("forbid (principal, action, resource) when {{ {expression} }};")
    };
    let chain = |link: &str, end: &str| format!("{}{end}", link.repeat(levels));
    vec![
        when(format!("{} > 0", chain("1 + ", "1"))),
        when(chain("principal.kind == \"HUMAN\" && ", "true")),
        when(chain("principal.kind == \"HUMAN\" || ", "false")),
        when(format!("{}true{}", "(".repeat(levels), ")".repeat(levels))),
        when(chain("!", "true")),
        when(format!("{} == -1", chain("-", "1"))),
        when(chain("if true then true else ", "false")),
        when(format!(
            "{}1{}.isEmpty()",
            "[".repeat(levels),
            "]".repeat(levels)
        )),
        when(format!(
            "{{a: {}1{}}} has a",
            "{a: ".repeat(levels),
            "}".repeat(levels)
        )),
        format!(
            "forbid (principal, action, resource) {};",
            "when { true } ".repeat(levels)
        ),
    ]
}

#[test]
fn a_text_too_deep_for_any_stack_is_refused_and_the_deepest_of_the_others_needs_little() {
    for text in deep(6_000).into_iter().chain(deep(400)) {
        let error = Conditions::parse(&text).unwrap_err();
        assert!(
            error.contains("operators and brackets") || error.contains("16 KiB"),
            "{error}"
        );
    }
    let ada = customer_human("ada");
    let on_a_small_stack = || {
        let mut accepted = 0;
        for text in deep(60).into_iter().chain(deep(110)) {
            // The library refuses some of them for other reasons.
            let Ok(conditions) = Conditions::parse(&text) else {
                continue;
            };
            accepted += 1;
            let again = Conditions::accepted(conditions.text()).unwrap();
            let review = act(&ada, DecisionAction::Review);
            let _ = again.asked(review).forbid(&source("crm"));
            drop((conditions, again));
        }
        accepted
    };
    // A quarter of what a thread of the service has.
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let accepted = std::thread::scope(|scope| {
        small
            .spawn_scoped(scope, on_a_small_stack)
            .unwrap()
            .join()
            .unwrap()
    });
    assert!(accepted >= 8, "{accepted}");
}

#[test]
fn a_long_list_is_not_deep_and_what_is_too_long_when_written_out_is_refused() {
    let kinds: Vec<String> = (0..1_500).map(|number| format!("\"K{number}\"")).collect();
    let text = format!(
        "forbid (principal, action, resource) when {{ [{}].contains(principal.kind) }};",
        kinds.join(",")
    );
    let conditions = Conditions::parse(&text).unwrap();
    assert!(
        conditions
            .asked(act(&customer_human("ada"), DecisionAction::Review))
            .forbid(&source("crm"))
            .is_empty()
    );
    // Short policies, each of which the library writes with all its parts.
    let many = "forbid(principal,action,resource)when{1>2&&3>4};".repeat(200);
    let written_out = Conditions::parse(&many);
    if let Ok(conditions) = &written_out {
        assert!(conditions.text().len() <= BYTES_MAX);
        assert_eq!(Conditions::parse(conditions.text()).unwrap(), *conditions);
    } else {
        assert!(written_out.unwrap_err().contains("written out"));
    }
    let of = |number| {
        format!("forbid (principal, action, resource == Counterfoil::Source::\"s{number}\");")
    };
    let text: String = (0..65).map(of).collect();
    let error = Conditions::parse(&text).unwrap_err();
    assert!(error.contains("64 sources"), "{error}");
}
