//! Statement 22 at a store in PostgreSQL. What a failed fsync means is PostgreSQL's business; what the server has to know is that its store is lost, and to tell
//! nothing that no record backs.

use selfsame::protocol::Refusal;
use selfsame::protocol::wire::{Answer, Call};

use super::fixture::Fixture;
use super::hand::{Hand, answer_of, in_time, refusal_of};

pub async fn s22_while_the_database_is_lost_nothing_false_is_told_and_nothing_told_is_lost(fixture: Fixture) {
    let vault = fixture.closed_vault();
    let server = fixture.serve(&vault).await;
    let mut hand = Hand::connect(&server.endpoint).await;
    vault.admit(1);
    let told = hand.call(1, "ann");
    let reply = hand.ask(&told).await;
    vault.entered().await;
    let running = hand.call(2, "ann");
    hand.send(&running);
    vault.entered().await;

    fixture.database().kill9();
    let refused = hand.latest(&hand.call(3, "ann")).await;
    let Answer::Refused(why) = &refused.answer else { panic!("told without a record: {refused:?}") };
    assert_eq!(why.refusal, Refusal::Unavailable, "{refused:?}");
    // The handler has its effect, or in an atomic store fails; either way there is no record of it.
    vault.admit(1);
    let meanwhile = hand.settle().await;
    assert!(meanwhile.as_ref().is_none_or(|reply| refusal_of(reply).is_some()), "{meanwhile:?}");

    fixture.database().resume_service();
    vault.admit(10);
    let mut attempt = 2;
    let ended = in_time(async {
        loop {
            let reply = hand.latest(&Call { attempt, ..running.clone() }).await;
            match refusal_of(&reply) {
                Some(Refusal::Unavailable | Refusal::InProgress) => attempt += 1,
                _ => return reply,
            }
        }
    })
    .await;
    if fixture.is_atomic() {
        assert!(
            matches!(ended.answer, Answer::Ok(_)),
            "the effect was undone, and the retry had it: {ended:?}"
        );
    } else {
        // The record was ended late but in time, or its owner, out of touch, was taken for dead.
        let is_true =
            matches!(ended.answer, Answer::Ok(_)) || refusal_of(&ended) == Some(Refusal::RecordedUnknown);
        assert!(is_true, "{ended:?}");
    }
    assert_eq!(vault.effects().await, 2);
    assert_eq!(answer_of(&hand.latest(&Call { attempt: 2, ..told }).await), answer_of(&reply));
    assert!(matches!(hand.latest(&Call { attempt: 2, ..hand.call(3, "ann") }).await.answer, Answer::Ok(_)));
    assert_eq!(vault.effects().await, 3);
}
