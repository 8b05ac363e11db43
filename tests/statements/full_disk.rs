//! Statement 22 at a store in a file: when the disk takes no more, the server stops, and its next incarnation knows all that was told.
//!
//! The disk is full for one process alone: this test starts itself again in a child whose files may not grow, and looks at the file afterwards.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use selfsame::protocol::wire::{Answer, Entry};
use selfsame::protocol::{Refusal, Registration};
use tokio::signal::unix::{SignalKind, signal};

use super::fixture::Fixture;
use super::hand::{Hand, answer_of, refusal_of};

/// In the child: the folder of the store.
const FOLDER: &str = "SELFSAME_TEST_FULL_DISK";
/// Calls that are answered before the disk is full.
const TOLD: u64 = 5;

pub async fn s22_a_store_that_cannot_write_stops_and_nothing_told_is_lost(fixture: Fixture) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return until_the_disk_is_full(Path::new(&folder)).await;
    }
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this);
    child.args([
        "--exact",
        "--nocapture",
        "durable::s22_a_store_that_cannot_write_stops_and_nothing_told_is_lost",
    ]);
    child.env(FOLDER, fixture.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let last = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {said}")).to_owned()
    };

    let vault = fixture.vault();
    let server = fixture.serve(&vault).await;
    let session = Registration(last("registration ").parse().unwrap());
    let mut hand = Hand::resume(&server.endpoint, session).await;
    assert_eq!(hand.welcome.registration, session);
    let stamp = last("stamp ").parse().unwrap();
    hand.welcome.stamp = selfsame::protocol::Stamp(stamp); // of the welcome under which the calls were first sent
    for number in 1..=TOLD {
        let reply = hand.ask(&hand.stamped_as(&hand.call(number, "ann"), 2)).await;
        assert!(reply.replayed);
        assert_eq!(format!("{:?}", answer_of(&reply)), last(&format!("told {number} ")));
    }
    let ran = hand.ask(&hand.stamped_as(&hand.call(TOLD + 1, "ann"), 2)).await;
    assert_eq!(refusal_of(&ran), Some(Refusal::RecordedUnknown), "it ran, and nobody was told");
    assert_eq!(vault.effects().await, 0);
    let waited = hand.ask(&hand.stamped_as(&hand.call(TOLD + 2, "ann"), 2)).await;
    assert!(matches!(waited.answer, Answer::Ok(_)) && !waited.replayed, "it had not run: {waited:?}");
}

async fn until_the_disk_is_full(folder: &Path) {
    let fixture = Fixture::durable_in(folder);
    let vault = fixture.closed_vault();
    let mut server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    println!("\nregistration {}\nstamp {}", hand.welcome.registration.0, hand.welcome.stamp.0);
    vault.admit(TOLD as usize);
    for number in 1..=TOLD {
        println!("told {number} {:?}", answer_of(&hand.ask(&hand.call(number, "ann")).await));
        vault.entered().await;
    }
    hand.send(&hand.call(TOLD + 1, "ann"));
    vault.entered().await;

    // Without somebody who listens for it, the signal that comes with the error would end the process.
    let _heard = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).unwrap();
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..getrlimit(Resource::Fsize) }).unwrap();
    vault.admit(10);
    hand.send(&hand.call(TOLD + 2, "ann"));
    let error = server.stopped().await.to_string();
    assert!(error.contains("the store has stopped"), "{error}");
    for entry in hand.rest().await {
        let Entry::Reply(reply) = entry else { continue };
        let refused = refusal_of(&reply).unwrap_or_else(|| panic!("told without a record: {reply:?}"));
        assert_eq!((reply.id, refused), (hand_id(TOLD + 2), Refusal::Unavailable), "{reply:?}");
    }
    assert_eq!(vault.effects().await, TOLD + 1);
    assert!(!vault.has_entered(), "no handler without its intent");
}

fn hand_id(number: u64) -> selfsame::protocol::CallId {
    selfsame::protocol::CallId::Sequenced(number)
}
