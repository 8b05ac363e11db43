//! The client's process: makes the calls, and writes down what it was told.

use std::time::Duration;

use futures::StreamExt;
use selfsame::{Channel, ChannelCounters, Outcome};

use crate::api::storm::StormClient;
use crate::ledger::{self, Answer, Told};
use crate::options::Calls;
use crate::{Result, child};

/// Calls under way at once. Few, so that a message carries few of them and the storm has many messages to play with.
const IN_FLIGHT: usize = 64;
/// Longer than the worst of luck lasts: a call that ends as unknown proves nothing.
const DEADLINE: Duration = Duration::from_secs(60);
/// A relay that drops messages is found out by waiting alone. The slowest handler takes longer than this, so that retries meet running calls.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(250);

pub async fn run(options: Calls) -> Result<()> {
    let told = ledger::append(&options.told)?;
    let channel = Channel::builder()
        .in_flight(IN_FLIGHT)
        .deadline(DEADLINE)
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .attempts(100)
        .connect(&options.endpoint)
        .await?;
    let storm = StormClient::new(channel.clone());
    let call = |number| call(&storm, format!("user-{number}"), options.dedup);
    let mut calls = futures::stream::iter(0..options.calls).map(call).buffer_unordered(IN_FLIGHT);

    let mut dismissed = std::pin::pin!(child::dismissed());
    let mut often = tokio::time::interval(Duration::from_millis(100));
    let mut finished = 0;
    loop {
        tokio::select! {
            next = calls.next() => match next {
                Some(line) => ledger::write_line(&told, line)?,
                None => break,
            },
            _ = often.tick() => {
                print_counts(finished, channel.counters());
                continue;
            }
            () = &mut dismissed => return Err("dismissed before the last call was done".into()),
        }
        finished += 1;
    }
    print_counts(finished, channel.counters());
    // The channel stays open: copies of its messages are still on their way.
    dismissed.await;
    print_counts(finished, channel.counters());
    Ok(())
}

async fn call(storm: &StormClient, user: String, dedup: bool) -> Told {
    let answer = if dedup {
        let change = storm.change_password(|mut p| {
            p.set_user(&user);
            p.set_password("correct horse");
        });
        change.await.map(|reply| reply.read(|reply| Ok(reply.get_version())))
    } else {
        let change = storm.change_password_again(|mut p| {
            p.set_user(&user);
            p.set_password("correct horse");
        });
        change.await.map(|reply| reply.read(|reply| Ok(reply.get_version())))
    };
    match answer {
        Ok(Ok(version)) => Told { user, answer: Answer::Version(version), why: String::new() },
        Ok(Err(error)) => Told { user, answer: Answer::Yes, why: error.to_string() },
        Err(error) => {
            let answer = match error.outcome() {
                Outcome::Yes => Answer::Yes,
                Outcome::No => Answer::No,
                Outcome::Unknown => Answer::Unknown,
            };
            Told { user, answer, why: error.to_string().replace('\n', " ") }
        }
    }
}

fn print_counts(finished: u64, counters: ChannelCounters) {
    let ChannelCounters { attempts, replayed, connections, .. } = counters;
    println!("finished={finished} attempts={attempts} replayed={replayed} connections={connections}");
}
