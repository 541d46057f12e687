//! Every record type: its `R` number, its full name, and the stream that may carry it.
//!
//! Invariant: a type has one stream. A key registered for a stream can therefore write only that service's types. The two
//! types that tell who of a provider called a service are written by the service that was called: they may be on any stream.

use prost::Name;

use crate::v1;

/// The stream of a service, which is also its name.
pub mod stream {
    /// Stream of the authority service.
    pub const AUTHORITY: &str = "authority";
    /// Stream of the inventory service.
    pub const INVENTORY: &str = "inventory";
    /// Stream of the recertification service.
    pub const RECERTIFICATION: &str = "recertification";
    /// Stream of the reconciliation service.
    pub const RECONCILIATION: &str = "reconciliation";
    /// Stream of the ledger service.
    pub const LEDGER: &str = "ledger";
    /// The stream of whichever service was called.
    pub const EVERY: &str = "*";
    /// All streams.
    pub const ALL: [&str; 5] = [
        AUTHORITY,
        INVENTORY,
        RECERTIFICATION,
        RECONCILIATION,
        LEDGER,
    ];
}

/// One record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordType {
    /// Number in the domain model, such as "R37".
    pub number: &'static str,
    /// Short name of the message, such as "ReviewDecided".
    pub name: &'static str,
    /// Stream that carries it; [`stream::EVERY`]: any.
    pub stream: &'static str,
    /// Whether the record states an outcome that a human of the customer must own (I-11).
    pub outcome: bool,
}

impl RecordType {
    /// The stream of this name, if it may carry the type.
    #[must_use]
    pub fn on(&self, stream: &str) -> Option<&'static str> {
        let known = stream::ALL.into_iter().find(|known| *known == stream)?;
        (self.stream == known || self.stream == stream::EVERY).then_some(known)
    }

    /// Whether a stream may carry it.
    #[must_use]
    pub fn is_of(&self, stream: &str) -> bool {
        self.on(stream).is_some()
    }
}

macro_rules! catalogue {
    ($($number:literal $message:ident $stream:ident $outcome:literal;)*) => {
        /// All record types, in order of their numbers.
        pub const RECORD_TYPES: &[RecordType] = &[
            $(RecordType {
                number: $number,
                name: v1::$message::NAME,
                stream: stream::$stream,
                outcome: $outcome,
            },)*
        ];

        /// A decoded payload.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the message of the same name")]
        pub enum Payload { $($message(v1::$message),)* }

        impl Payload {
            /// The canonical bytes of the message.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                use prost::Message as _;
                match self { $(Self::$message(message) => message.encode_to_vec(),)* }
            }

            /// Full name of the message.
            #[must_use]
            pub const fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$message(_) => concat!("counterfoil.evidence.v1.", stringify!($message)),)*
                }
            }
        }

        /// Decodes the payload of a record by its type name. `None`: the type is not known here.
        ///
        /// # Errors
        /// When the bytes are not the canonical bytes of the type.
        pub fn decode_payload(
            type_name: &str,
            bytes: &[u8],
        ) -> Option<Result<Payload, crate::record::RecordError>> {
            let short = type_name.strip_prefix("counterfoil.evidence.v1.")?;
            match short {
                $(v1::$message::NAME => Some(
                    crate::record::decode_canonical::<v1::$message>(bytes, v1::$message::NAME)
                        .map(Payload::$message),
                ),)*
                _ => None,
            }
        }
    };
}

catalogue! {
    "R01" TenantLifecycleChanged AUTHORITY false;
    "R02" PolicyBundlePublished AUTHORITY false;
    "R03" DecisionRightProposed AUTHORITY false;
    "R03" DecisionRightGranted AUTHORITY false;
    "R03" DecisionRightRevoked AUTHORITY false;
    "R04" EscalationPathSet AUTHORITY false;
    "R05" RetentionPolicySet AUTHORITY false;
    "R06" BusinessUnitOwnerSet AUTHORITY false;
    "R07" OwnershipSet INVENTORY false;
    "R08" ActorKeyRegistered LEDGER false;
    "R08" ActorKeyRevoked LEDGER false;
    "R09" DelegationGranted AUTHORITY false;
    "R09" DelegationRevoked AUTHORITY false;
    "R11" SourceRegistered INVENTORY false;
    "R12" SourceSyncSealed INVENTORY false;
    "R13" SnapshotSealed INVENTORY false;
    "R16" ObjectClassified INVENTORY false;
    "R25" ActionAttempted RECONCILIATION false;
    "R26" EffectVerified RECONCILIATION true;
    "R27" GrantEnded RECONCILIATION true;
    "R33" EmergencyUseReviewed AUTHORITY false;
    "R33" EmergencyReviewMissed AUTHORITY false;
    "R34" CampaignDefined RECERTIFICATION false;
    "R35" CampaignStaged RECERTIFICATION false;
    "R36" ReviewItemRouted RECERTIFICATION false;
    "R37" ReviewDecided RECERTIFICATION true;
    "R38" ReviewItemLapsed RECERTIFICATION true;
    "R38" ReviewItemVoided RECERTIFICATION true;
    "R39" StageClosed RECERTIFICATION true;
    "R40" CampaignClosed RECERTIFICATION true;
    "R43" ReconRunSealed RECONCILIATION false;
    "R44" FindingOpened RECONCILIATION true;
    "R45" FindingDispositioned RECONCILIATION true;
    "R46" RemediationPlanned RECONCILIATION true;
    "R47" ThresholdTripped RECONCILIATION false;
    "R47" ThresholdResolved RECONCILIATION true;
    "R48" RegressionDetected RECONCILIATION true;
    "R49" RemediationClosed RECONCILIATION true;
    "R51" ExceptionGranted RECERTIFICATION true;
    "R54" ObligationOpened RECONCILIATION true;
    "R58" ObligationDischarged RECONCILIATION true;
    "R58" ObligationBreached RECONCILIATION true;
    "R62" EngagementRequested AUTHORITY false;
    "R62" EngagementApproved AUTHORITY false;
    "R62" EngagementExtended AUTHORITY false;
    "R62" EngagementEnded AUTHORITY false;
    "R62" EngagementNoticeGiven AUTHORITY false;
    "R63" ResponsibilityAssigned AUTHORITY false;
    "R64" CompetencyEvidenceSubmitted AUTHORITY false;
    "R64" CompetencyEvidenceAccepted AUTHORITY false;
    "R64" CompetencyEvidenceRevoked AUTHORITY false;
    "R65" PartnerTierSet AUTHORITY false;
    "R65" EnvironmentSensitivitySet AUTHORITY false;
    "R66" ControlAttested AUTHORITY false;
    "R67" ReassessmentCompleted AUTHORITY false;
    "R69" SubcontractorEngaged AUTHORITY false;
    "R72" OperatorAccessUsed EVERY false;
    "R74" AgentMandateProposed AUTHORITY false;
    "R74" AgentMandateGranted AUTHORITY false;
    "R74" AgentMandateCertified AUTHORITY false;
    "R77" AgentSuspended AUTHORITY false;
    "R77" AgentResumed AUTHORITY false;
    "R77" AgentRevoked AUTHORITY false;
    "R78" EpochSealed LEDGER false;
    "R84" OperatorLogCrossLinked EVERY false;
    "R80" EvidencePackIssued AUTHORITY false;
    "R82" LegalHoldPlaced AUTHORITY false;
    "R82" LegalHoldReleased AUTHORITY false;
    "R85" PrincipalRegistered AUTHORITY false;
    "R85" PrincipalEnded AUTHORITY false;
    "R86" SchemaRegistered LEDGER false;
    "R87" RemediationStarted RECONCILIATION false;
    "R87" ActionIntended RECONCILIATION false;
    "R88" CredentialIssued AUTHORITY false;
    "R88" CredentialRevoked AUTHORITY false;
    "R89" OperatorAssigned AUTHORITY false;
    "R89" OperatorUnassigned AUTHORITY false;
    "R90" EmergencyAccessRequested AUTHORITY false;
    "R90" EmergencyAccessActivated AUTHORITY false;
    "R90" EmergencyAccessEnded AUTHORITY false;
    "R91" HeadsAnchored LEDGER false;
    "R92" TenantBound LEDGER false;
    "R93" LogScrubbed LEDGER false;
}

/// Looks a record type up by its full name.
#[must_use]
pub fn record_type(type_name: &str) -> Option<&'static RecordType> {
    let short = type_name.strip_prefix("counterfoil.evidence.v1.")?;
    RECORD_TYPES.iter().find(|known| known.name == short)
}
