//! A replica of a service as its store sees it: it asks operations and waits for what they come to.

use std::collections::HashMap;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use selfsame::postgres::{self, NoTls};
use selfsame::protocol::dedup::Imprint;
use selfsame::protocol::store::{Done, Found, Intent, Kept, Op, Opened, RecordId, StoreEvent, Ticket};
use selfsame::protocol::wire::{Answer, Refused};
use selfsame::protocol::{CallId, Incarnation, Key, PrincipalId, Refusal, Registration, Stamp, WallTime};
use selfsame::store::postgres::Transactions;
use selfsame::store::{Link, Opener};
use selfsame::{Spin, Store};
use selfsame_test_postgres::Server;
use tokio::time::timeout;

/// Longer than anything that is waited for takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const RETENTION: Duration = Duration::from_secs(900);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A number that no other test has.
pub fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The server that no test disturbs. It ends with the last test that holds it.
pub fn quiet() -> Arc<Server> {
    static QUIET: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    quiet.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *quiet = Arc::downgrade(&server);
        server
    })
}

/// A name for a schema.
pub fn schema() -> String {
    format!("test_{}", number())
}

pub struct Replica {
    pub incarnation: Incarnation,
    pub opened: Opened,
    pub transactions: Option<Transactions>,
    link: Link,
    tickets: u64,
    done: HashMap<Ticket, Done>,
    /// What came besides answers.
    pub events: Vec<StoreEvent>,
}

impl Replica {
    pub async fn open(store: Store) -> Replica {
        Replica::open_for(store, RETENTION).await
    }

    pub async fn open_for(store: Store, retention: Duration) -> Replica {
        let mut replica = Replica::begin(store, retention).await;
        match replica.event().await {
            StoreEvent::Opened(opened) => replica.opened = *opened,
            other => panic!("not opened: {other:?}"),
        }
        replica
    }

    /// Before it is open.
    pub async fn begin(store: Store, retention: Duration) -> Replica {
        let incarnation = Incarnation(number() << 32 | u64::from(std::process::id()));
        let transactions = store.transactions();
        let link = store
            .open(Opener { incarnation, retention, spin: Spin::default() })
            .await
            .expect("options that make sense");
        let link = link.expect("a store beyond memory");
        let (opened, done, events) = Default::default();
        Replica { incarnation, opened, transactions, link, tickets: 0, done, events }
    }

    /// The next thing that is no answer.
    pub async fn event(&mut self) -> StoreEvent {
        loop {
            let event = timeout(PATIENCE, self.link.events.recv()).await.expect("an event in time");
            match event.expect("the store lives") {
                StoreEvent::Done(ticket, done) => {
                    assert!(self.done.insert(ticket, done).is_none(), "answered twice");
                }
                other => return other,
            }
        }
    }

    pub fn ask(&mut self, op: Op) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.link.ops.send((ticket, op)).expect("the store lives");
        ticket
    }

    pub async fn answer(&mut self, ticket: Ticket) -> Done {
        loop {
            if let Some(done) = self.done.remove(&ticket) {
                return done;
            }
            let event = timeout(PATIENCE, self.link.events.recv()).await.expect("an answer in time");
            match event.expect("the store lives") {
                StoreEvent::Done(ticket, done) => {
                    assert!(self.done.insert(ticket, done).is_none(), "answered twice");
                }
                other => self.events.push(other),
            }
        }
    }

    /// Whether there is an answer within a time in which there would be one if it did not wait.
    pub async fn is_answered(&mut self, ticket: Ticket) -> bool {
        while let Ok(event) = timeout(Duration::from_millis(300), self.link.events.recv()).await {
            match event.expect("the store lives") {
                StoreEvent::Done(ticket, done) => {
                    self.done.insert(ticket, done);
                }
                other => self.events.push(other),
            }
        }
        self.done.contains_key(&ticket)
    }

    pub async fn does(&mut self, op: Op) -> Done {
        let ticket = self.ask(op);
        self.answer(ticket).await
    }

    /// A new session.
    pub async fn session(&mut self) -> Registration {
        let registration = Registration(u128::from(number()) << 64 | u128::from(self.incarnation.0));
        let done = self.does(Op::Register { registration, principal: PrincipalId::ANYONE }).await;
        assert!(matches!(done, Done::Registered { .. }), "{done:?}");
        registration
    }

    pub async fn claim(&mut self, intent: Intent) -> Done {
        self.does(Op::Claim(intent)).await
    }

    pub async fn finish(&mut self, intent: Intent, keep: Option<Answer>) -> Done {
        self.does(Op::Finish { claim: Ticket(0), intent, keep }).await
    }

    pub async fn look(&mut self, record: RecordId) -> Done {
        self.does(Op::Look { record, abandon: false }).await
    }

    pub async fn close(&mut self, registration: Registration, below: u64) -> Done {
        self.does(Op::Close { registration, below, ranges: Vec::new() }).await
    }
}

pub fn imprint() -> Imprint {
    Imprint { interface: u64::MAX, method: 7, digest: u128::MAX - 1, first_stamp: Stamp(u64::MAX - 2) }
}

pub fn call(registration: Registration, number: u64) -> Intent {
    Intent { registration, principal: PrincipalId::ANYONE, id: CallId::Sequenced(number), imprint: imprint() }
}

pub fn keyed(registration: Registration, key: u128, expiry: WallTime) -> Intent {
    let key = Key { key, issued: WallTime(1), expiry };
    Intent { registration, principal: PrincipalId::ANYONE, id: CallId::Keyed(key), imprint: imprint() }
}

pub fn ok(text: &str) -> Answer {
    Answer::Ok(Bytes::copy_from_slice(text.as_bytes()))
}

pub fn ended(answer: Answer) -> Done {
    Done::Found(Found { imprint: imprint(), state: Kept::Ended(answer) })
}

pub fn running(owner: Incarnation) -> Done {
    Done::Found(Found { imprint: imprint(), state: Kept::Running(owner) })
}

pub fn is_recorded_unknown(done: &Done) -> bool {
    matches!(
        done,
        Done::Found(Found {
            state: Kept::Ended(Answer::Refused(Refused {
                refusal: Refusal::RecordedUnknown,
                ambiguous: true,
                ..
            })),
            ..
        })
    )
}

/// A connection beside the store, to disturb it or to see what it does.
pub async fn observer(url: &str) -> postgres::Client {
    let (client, connection) = postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}
