//! What is asked of a provider: the same for who lets it work and for who verifies that it was let rightly.

use crate::v1::EngagementProfile;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// How long a request may be approved, milliseconds.
pub const REQUEST_MS: i64 = 90 * DAY_MS;
/// Longest term of an engagement, milliseconds.
pub const TERM_MS_MAX: i64 = 730 * DAY_MS;
/// Longest extension of an engagement, milliseconds.
pub const EXTENSION_MS_MAX: i64 = 180 * DAY_MS;
/// Longest life of a pilot, milliseconds.
pub const PILOT_MS_MAX: i64 = 90 * DAY_MS;
/// Longest life of evidence of competency, days.
pub const EVIDENCE_DAYS_MAX: i64 = 1_096;
/// Longest life of an attestation, and longest time to the next reassessment, days.
pub const ASSURANCE_DAYS_MAX: i64 = 400;
/// How old an acceptance of evidence may be where the profile is REGULATED, milliseconds.
pub const FRESH_MS_MAX: i64 = 365 * DAY_MS;
/// Roles that a provider may have with a customer: never its administration.
pub const ROLES: [&str; 3] = ["auditor", "operator", "reviewer"];
/// Activities that somebody must answer for before a provider works (B16).
pub const MANDATORY: [&str; 3] = ["onboarding", "access_design", "offboarding"];
/// What the customer keeps in a pilot (B24).
pub const PILOT_DUTIES: [&str; 3] = ["secrets", "approvals", "logging"];
/// The environment whose sensitivity accesses are judged by.
pub const ENVIRONMENT: &str = "default";
/// Level of an environment whose sensitivity nobody stated: the highest.
pub const LEVEL_MAX: u32 = 4;
/// Permissions that an operator has whatever they lack: to show what they can, and to read what they have shown.
pub const ALWAYS: [&str; 2] = ["competencies.submit", "competencies.get"];
/// The methods that need those permissions, each after its permission: a call of any other is no showing of evidence.
pub const ALWAYS_METHODS: [(&str, &str); 2] = [
    (
        "competencies.submit",
        "/counterfoil.authority.v1.QualificationService/SubmitCompetency",
    ),
    (
        "competencies.get",
        "/counterfoil.authority.v1.QualificationService/ListCompetencies",
    ),
];

/// Topics that a profile asks every operator for.
#[must_use]
pub const fn topics(profile: EngagementProfile) -> &'static [&'static str] {
    match profile {
        EngagementProfile::Unspecified | EngagementProfile::Pilot => &["access_reviews"],
        EngagementProfile::Standard => &["onboarding", "access_reviews", "incident_response"],
        EngagementProfile::Regulated => &[
            "onboarding",
            "access_reviews",
            "incident_response",
            "secret_rotation",
        ],
    }
}

/// Controls that a profile asks the provider to attest.
#[must_use]
pub const fn controls(profile: EngagementProfile) -> &'static [&'static str] {
    match profile {
        EngagementProfile::Regulated => &["access_control", "logging"],
        EngagementProfile::Unspecified | EngagementProfile::Pilot | EngagementProfile::Standard => {
            &["access_control"]
        }
    }
}
