//! Bugs on purpose, to prove that the checks find them. Nothing but tests plants one.

/// One wrong rule.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Planted {
    /// A node does not answer suspicion.
    SuspicionNotRefuted,
    /// A node does not answer when others hold it for dead.
    DeathNotRefuted,
    /// Replayed numbers are taken.
    ReplayAccepted,
    /// Lives that have not proved themselves are believed.
    StrangersTrusted,
    /// What is heard is not passed on.
    NotPassedOn,
    /// Packets for others are taken.
    AnyDestination,
    /// Any acknowledgement ends the probe, whatever its number and sender.
    AnyAckCounts,
    /// A packet from a suspect begins its suspicion anew.
    SuspectExtendsItself,
    /// Targets are drawn at random, without bound.
    RandomTargets,
    /// Joining begins the incarnations anew.
    JoinResetsIncarnation,
    /// Packets are filled without looking at their size.
    UnboundedPackets,
    /// "Alive" wins at an equal incarnation.
    EqualAliveWins,
    /// Failed members are never tried again.
    NoRejoin,
    /// A refutation does not raise the incarnation, it only repeats it.
    RefutesWithoutRaising,
    /// Whoever is suspected is never declared dead.
    SuspicionNeverEnds,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 15] = [
        Planted::SuspicionNotRefuted,
        Planted::DeathNotRefuted,
        Planted::ReplayAccepted,
        Planted::StrangersTrusted,
        Planted::AnyDestination,
        Planted::NotPassedOn,
        Planted::AnyAckCounts,
        Planted::SuspectExtendsItself,
        Planted::RandomTargets,
        Planted::JoinResetsIncarnation,
        Planted::UnboundedPackets,
        Planted::EqualAliveWins,
        Planted::NoRejoin,
        Planted::RefutesWithoutRaising,
        Planted::SuspicionNeverEnds,
    ];
}
