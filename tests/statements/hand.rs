//! A client that is held by hand: it sends what it is told to.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use bytes::Bytes;
use selfsame::Method;
use selfsame::io::{
    Dealer, DealerEvent, DealerOptions, Endpoint, IoThread, Router, RouterEvent, RouterOptions,
};
use selfsame::protocol::wire::{
    self, Ack, Answer, Call, Cancel, Encoder, Entry, Goodbye, Hello, Limits, Refused, Reply, Welcome,
};
use selfsame::protocol::{CallId, Incarnation, Refusal, Registration, RetryClass, Session, Stamp, WallTime};
use tokio::sync::mpsc;

use super::api::account::account::{ChangePassword, change_password_params};
use super::transport::{Over, anywhere};

pub struct Hand {
    pub welcome: Welcome,
    outgoing: mpsc::UnboundedSender<Vec<Bytes>>,
    incoming: mpsc::UnboundedReceiver<Entry>,
    pings: u64,
    _stop: std_mpsc::Sender<()>,
}

/// How long a test waits for what must come: far longer than it takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what has to come.
pub async fn in_time<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.expect("it comes in time")
}

/// Waits until it is so.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    in_time(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

impl Hand {
    pub async fn connect(endpoint: &str) -> Hand {
        Hand::dial(endpoint, DealerOptions::dealer().over(), None).await
    }

    pub async fn resume(endpoint: &str, registration: Registration) -> Hand {
        Hand::dial(endpoint, DealerOptions::dealer().over(), Some(registration)).await
    }

    pub async fn dial(endpoint: &str, options: DealerOptions, resume: Option<Registration>) -> Hand {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let (outgoing, mut to_send) = mpsc::unbounded_channel::<Vec<Bytes>>();
        let (heard, incoming) = mpsc::unbounded_channel();
        let (stop, _stopped) = std_mpsc::channel();
        drop(IoThread::shared().unwrap().run(move || async move {
            let mut dealer = Dealer::dial(&endpoint, options).await.unwrap();
            loop {
                tokio::select! {
                    frames = to_send.recv() => match frames {
                        Some(frames) => dealer.send(frames).unwrap(),
                        None => return dealer.close().await,
                    },
                    event = dealer.next() => match event {
                        DealerEvent::Message(frames) => {
                            for entry in wire::decode(&frames, &Limits::default()).unwrap().entries {
                                let _ = heard.send(entry.unwrap());
                            }
                        }
                        DealerEvent::Writable => {}
                        DealerEvent::Closed(_) => return,
                    },
                }
            }
        }));
        let mut hand = Hand { welcome: Welcome::default(), outgoing, incoming, pings: 0, _stop: stop };
        hand.greet(resume).await;
        hand
    }

    /// Says hello, until the server's store is open.
    async fn greet(&mut self, resume: Option<Registration>) {
        let hello = Hello {
            id: 7,
            version: wire::VERSION,
            session: Session(1),
            resume,
            acked_below: 0,
            contracts: vec![],
        };
        let asked = async {
            loop {
                self.say(hello.clone());
                match self.next().await {
                    Entry::Welcome(welcome) => return welcome,
                    Entry::Goodbye(Goodbye { refusal: Some(Refusal::Unavailable), .. }) => {}
                    other => panic!("no welcome but {other:?}"),
                }
            }
        };
        self.welcome = in_time(asked).await;
    }

    /// A `changePassword`, not sent yet.
    pub fn call(&self, number: u64, user: &str) -> Call {
        Call {
            registration: self.welcome.registration,
            incarnation: self.welcome.incarnation,
            first_stamp: self.welcome.stamp,
            id: CallId::Sequenced(number),
            interface: ChangePassword::INFO.interface,
            method: ChangePassword::INFO.ordinal,
            retry: RetryClass::Once,
            attempt: 1,
            time_left: PATIENCE,
            acked_below: 0,
            trace: None,
            issued: WallTime(0),
            metadata: vec![],
            body: body(user),
        }
    }

    /// A call of an earlier connection, as this connection sends it.
    pub fn stamped_as(&self, call: &Call, attempt: u32) -> Call {
        Call { incarnation: self.welcome.incarnation, attempt, ..call.clone() }
    }

    pub fn say(&self, entry: impl Into<Said>) {
        let mut encoder = Encoder::new(Limits::default());
        encoder.push(entry.into().0).unwrap();
        self.outgoing.send(encoder.finish()).unwrap();
    }

    pub fn send_frames(&self, frames: Vec<Bytes>) {
        self.outgoing.send(frames).unwrap();
    }

    pub fn send(&self, call: &Call) {
        self.say(call.clone());
    }

    pub async fn next(&mut self) -> Entry {
        in_time(self.incoming.recv()).await.expect("a connection")
    }

    pub async fn reply(&mut self) -> Reply {
        loop {
            match self.next().await {
                Entry::Reply(reply) => return reply,
                Entry::Pong(_) | Entry::Ping(_) => {}
                other => panic!("no reply but {other:?}"),
            }
        }
    }

    /// All that comes until the server closes the connection.
    pub async fn rest(&mut self) -> Vec<Entry> {
        let closed = async {
            let mut entries = Vec::new();
            while let Some(entry) = self.incoming.recv().await {
                entries.push(entry);
            }
            entries
        };
        in_time(closed).await
    }

    pub async fn ask(&mut self, call: &Call) -> Reply {
        self.send(call);
        let reply = self.reply().await;
        assert_eq!((reply.id, reply.attempt, reply.registration), (call.id, call.attempt, call.registration));
        reply
    }

    /// As [`ask`](Hand::ask), past replies to earlier attempts.
    pub async fn latest(&mut self, call: &Call) -> Reply {
        self.send(call);
        loop {
            let reply = self.reply().await;
            if (reply.id, reply.attempt) == (call.id, call.attempt) {
                return reply;
            }
        }
    }

    /// What is answered to a call at once, without a handler or a store.
    pub async fn ask_now(&mut self, call: &Call) -> Option<Reply> {
        self.send(call);
        let told = self.settle().await;
        // A pong overtakes the replies of its own batch, not those of one before.
        self.settle().await.or(told)
    }

    /// Returns when the server has taken all that was said before: it takes messages in order. The last reply that came meanwhile.
    pub async fn settle(&mut self) -> Option<Reply> {
        self.pings += 1;
        self.say(Said(Entry::Ping(self.pings)));
        let mut last = None;
        loop {
            match self.next().await {
                Entry::Pong(number) if number == self.pings => return last,
                Entry::Reply(reply) => last = Some(reply),
                _ => {}
            }
        }
    }
}

/// A server that is held by hand: it welcomes, and answers a call with the refusal that it is told, as not executed, or not at all.
pub async fn serve(answer: fn(&Call) -> Option<Refusal>) -> String {
    let (bound, endpoint) = tokio::sync::oneshot::channel();
    drop(IoThread::shared().unwrap().run(move || async move {
        let anywhere: Endpoint = anywhere().parse().unwrap();
        let mut router = Router::bind(&anywhere, RouterOptions::router().over()).await.unwrap();
        bound.send(router.endpoint().to_string()).unwrap();
        loop {
            let RouterEvent::Message(from, frames) = router.next().await else { continue };
            let mut encoder = Encoder::new(Limits::default());
            for entry in wire::decode(&frames, &Limits::default()).unwrap().entries {
                let reply = match entry.unwrap() {
                    Entry::Hello(hello) => Some(Entry::Welcome(welcome(&hello))),
                    Entry::Call(call) => answer(&call).map(|refusal| Entry::Reply(refused(&call, refusal))),
                    _ => None,
                };
                reply.into_iter().for_each(|entry| encoder.push(entry).unwrap());
            }
            let frames = encoder.finish();
            if !frames.is_empty() {
                let _ = router.send(from, frames); // the client may have gone
            }
        }
    }));
    endpoint.await.unwrap()
}

fn welcome(hello: &Hello) -> Welcome {
    Welcome {
        hello: hello.id,
        version: wire::VERSION,
        registration: Registration(9),
        incarnation: Incarnation(9),
        stamp: Stamp(9),
        retention: Duration::from_secs(600),
        window: 100,
        heartbeat: PATIENCE,
        body_limit: 1 << 20,
        ..Welcome::default()
    }
}

fn refused(call: &Call, refusal: Refusal) -> Reply {
    let refused = Refused { refusal, ambiguous: false, retry_after: None, message: "by hand".into() };
    let answer = Answer::Refused(refused);
    Reply { registration: call.registration, id: call.id, attempt: call.attempt, replayed: false, answer }
}

pub struct Said(Entry);

impl From<Hello> for Said {
    fn from(hello: Hello) -> Said {
        Said(Entry::Hello(hello))
    }
}

impl From<Call> for Said {
    fn from(call: Call) -> Said {
        Said(Entry::Call(call))
    }
}

impl From<Ack> for Said {
    fn from(ack: Ack) -> Said {
        Said(Entry::Ack(ack))
    }
}

impl From<Cancel> for Said {
    fn from(cancel: Cancel) -> Said {
        Said(Entry::Cancel(cancel))
    }
}

fn body(user: &str) -> Bytes {
    let mut message = selfsame::capnp::message::Builder::new_default();
    let mut params = message.init_root::<change_password_params::Builder<'_>>();
    params.set_user(user);
    params.set_password("secret");
    Bytes::from(selfsame::capnp::serialize::write_message_to_words(&message))
}

pub fn answer_of(reply: &Reply) -> &[u8] {
    match &reply.answer {
        Answer::Ok(body) => body,
        other => panic!("no result but {other:?}"),
    }
}

pub fn refusal_of(reply: &Reply) -> Option<Refusal> {
    match &reply.answer {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    }
}
