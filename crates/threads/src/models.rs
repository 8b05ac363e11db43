//! The list of models: a story of threads each, with the bugs that it has to find.

use selfsame::sabotage::Bug;

use crate::{client, derived, publisher, server, store, subscriber};

/// A story, played once for each schedule.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is called.
    pub name: &'static str,
    /// Plays it, and panics if something does not hold; a deadlock panics too.
    pub play: fn(),
    /// Small enough for all its schedules to be played.
    pub exhaustive: bool,
    /// Planted, each makes it fail.
    pub bugs: &'static [Bug],
}

/// All of them.
pub const MODELS: &[Model] = &[
    all("equal calls within a request", derived::one_claims, &[Bug::DerivedTwice]),
    all(
        "a place is for whoever asks when it is free",
        client::a_free_place_is_found,
        &[Bug::PlaceCountedFirst],
    ),
    some("calls that end and are dropped", client::places_come_back, &[Bug::PlaceGivenBackTwice]),
    some("one who is woken wakes the others", client::one_wakes_the_others, &[Bug::OneWokenEarly]),
    some("whoever goes wakes the others", client::whoever_goes_wakes_the_others, &[]),
    some("publishing and shutting down", publisher::what_is_taken_is_sent, &[Bug::QueueTakenForAll]),
    some("a subscription is read to its end", subscriber::all_is_read, &[Bug::ReaderRegistersLate]),
    all("a subscription is dropped", subscriber::nothing_stays, &[Bug::EndedInboxFills]),
    some("a subscription stands", subscriber::it_stands, &[Bug::ProgressMarkedLate]),
    some(
        "a transaction ends under its statements",
        store::no_use_after_the_end,
        &[Bug::OverAskedBeforeWaiting],
    ),
    some(
        "attempts of one call join",
        server::attempts_join,
        &[Bug::RetryRunsAgain, Bug::ReplayRunsAgain, Bug::JoinFirstOnly],
    ),
    some(
        "acknowledgements and late copies",
        server::acknowledged,
        &[Bug::WatermarkFalls, Bug::RunningCollected, Bug::AckOfAnotherSession],
    ),
    some("a session ends under its calls", server::session_ends, &[Bug::OldHelloRevives]),
    some(
        "handlers that are late or dropped",
        server::late_and_dropped,
        &[Bug::LateAnswerCounts, Bug::DroppedHandlerSilent],
    ),
];

const fn all(name: &'static str, play: fn(), bugs: &'static [Bug]) -> Model {
    Model { name, play, exhaustive: true, bugs }
}

const fn some(name: &'static str, play: fn(), bugs: &'static [Bug]) -> Model {
    Model { name, play, exhaustive: false, bugs }
}
