//! The closed list of what the server records as an event.

macro_rules! kinds {
    ($($variant:ident = $text:literal, $doc:literal;)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $(#[doc = $doc] $variant,)*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

kinds! {
    Initialised = "initialised", "The data folder was made.";
    EnrolmentOrdered = "enrolment-ordered", "An operator ordered a one-time token.";
    DeviceEnrolled = "device-enrolled", "A device used its token.";
    EnrolmentRefused = "enrolment-refused", "Somebody presented a token that does not count.";
    DeviceRevoked = "device-revoked", "An operator put a device out for good.";
    DeviceCloned = "device-cloned", "Two machines live on one certificate: both are kept out.";
    DeviceReidentified = "device-reidentified", "An operator ordered a new identity for a device.";
    CertificateRenewed = "certificate-renewed", "A device got a certificate for the key that it has.";
    AuthorityRotated = "authority-rotated", "Another certificate authority counts beside the old one.";
    AuthorityRetired = "authority-retired", "The old certificate authority counts no more.";
    DeviceOnline = "device-online", "A device said that it is there.";
    DeviceOffline = "device-offline", "A device said goodbye, or its last will did.";
    DeviceRunning = "device-running", "Another version answers on a device.";
    DeviceRefused = "device-refused", "A device refused something.";
    VersionPublished = "version-published", "A team's signed metadata lists a version for the first time.";
    VersionWithdrawn = "version-withdrawn", "A team's signed metadata lists a version no more.";
    CandidatePublished = "candidate-published", "A team's signed list of candidates names a version for the first time.";
    CandidateWithdrawn = "candidate-withdrawn", "A team's signed list of candidates names a version no more.";
    VersionRecalled = "version-recalled", "A team's signed metadata says that a version may run no more.";
    FloorRaised = "floor-raised", "A team's signed metadata wants newer versions of a model only.";
    DemandsSettled = "demands-settled", "Versions that may not run any more are not demanded any more.";
    ProposalMade = "proposal-made", "Somebody proposed a team's next list of versions.";
    ProposalSigned = "proposal-signed", "Somebody signed a proposed list.";
    ProposalWithdrawn = "proposal-withdrawn", "Somebody took a proposed list back.";
    ProposalVoid = "proposal-void", "Another list was published: the signatures of a proposed one count for nothing.";
    ManifestReplaced = "manifest-replaced", "A version that was never signed got another manifest.";
    MetadataExpiring = "metadata-expiring", "Metadata could not be signed anew, or what people sign ends soon; devices refuse what is expired.";
    TrustPublished = "trust-published", "A ceremony's root or targets are in force.";
    Assigned = "assigned", "An operator assigned a version.";
    RolloutCreated = "rollout-created", "Somebody made a rollout.";
    RolloutApproved = "rollout-approved", "Somebody else than its maker approved a rollout.";
    RolloutDenied = "rollout-denied", "Somebody denied a rollout.";
    RolloutStarted = "rollout-started", "Somebody started a rollout.";
    RolloutPaused = "rollout-paused", "Somebody paused a rollout.";
    RolloutResumed = "rollout-resumed", "Somebody let a rollout go on.";
    RolloutPromotionOrdered = "rollout-promotion-ordered", "Somebody wants a rollout's stage left.";
    RolloutRetried = "rollout-retried", "Somebody has failed and silent devices tried again.";
    RolloutAborted = "rollout-aborted", "A rollout is taken back, by somebody or by the planner.";
    RolloutUndone = "rollout-undone", "Somebody takes a finished rollout back.";
    RolloutBaking = "rollout-baking", "A rollout's stage has settled and is watched.";
    RolloutPromoted = "rollout-promoted", "A rollout's next stage begins.";
    RolloutHeld = "rollout-held", "A rollout waits for a human.";
    RolloutFinished = "rollout-finished", "Everybody has the version of a rollout.";
    Renewed = "renewed", "Desired states were signed anew before they expired.";
    ReaderAdded = "reader-added", "A dashboard got a certificate.";
    ReaderRemoved = "reader-removed", "A dashboard's certificate counts no more.";
    TokenCreated = "token-created", "Somebody got a token.";
    TokenRevoked = "token-revoked", "A token counts no more.";
    FrontRefused = "front-refused", "The server refused a request that concerns the fleet.";
    TopicRefused = "topic-refused", "A device touched a topic that is not its own.";
    PayloadRefused = "payload-refused", "A device sent a twin, status or figure that is malformed.";
    IncidentOpened = "incident-opened", "The detectors found something.";
    IncidentUpdated = "incident-updated", "A device or feature joined or left an incident, or it asks more loudly.";
    IncidentResolved = "incident-resolved", "An incident ended.";
    IncidentAcknowledged = "incident-acknowledged", "An operator has seen an incident.";
    IncidentMuted = "incident-muted", "An operator keeps an incident's hooks quiet.";
    HookRan = "hook-ran", "A hook did its work.";
    HookFailed = "hook-failed", "A hook failed, for good or to be tried again.";
    ReportRefused = "report-refused", "A device sent a report that was not acknowledged.";
    ReportQuarantined = "report-quarantined", "A device sent a report or a row that cannot be used; it is kept.";
    VersionCommitted = "version-committed", "A version survived probation on a device.";
    VersionTakenBack = "version-taken-back", "A device took a version back by itself.";
    WorkerRestarted = "worker-restarted", "A device's worker ended unasked and was started again.";
    OutboxRenewed = "outbox-renewed", "A device's outbox was damaged or restored: its rows count from one again.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique() {
        let texts: std::collections::BTreeSet<_> = EventKind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(texts.len(), EventKind::ALL.len());
    }
}
