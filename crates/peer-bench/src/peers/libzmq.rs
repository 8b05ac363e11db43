//! libzmq, the C++ library, through the `zmq` crate: DEALER and ROUTER, PUB and SUB. It has an IO thread of its own and no use for tokio.

use std::collections::VecDeque;
use std::thread;

use bytes::Bytes;
use tokio::sync::oneshot;
use zmq::{Context, DONTWAIT, Message, SNDMORE, Socket};

use crate::Result;
use crate::events::{Tally, bursts};
use crate::load::{Load, Meter, Pipe, windowed};
use crate::peer::{Broadcast, Bursts, Client, Doing, Peer, Ready, number_of, numbered};
use crate::rounds::Cell;

pub struct LibZmq;

impl Peer for LibZmq {
    fn name(&self) -> &'static str {
        "libzmq"
    }

    fn about(&self) -> &'static str {
        "libzmq 4.3 by the zmq crate, DEALER to ROUTER, blocking: a message a call"
    }

    fn takes_part(&self, cell: &Cell) -> bool {
        // It has a thread of its own, in no runtime of ours.
        cell.workers == 1 && cell.pace.is_none()
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let router = Context::new().socket(zmq::ROUTER)?;
            ready(bind(&router)?, Vec::new());
            in_a_thread(move || {
                let (mut from, mut body) = (Message::new(), Message::new());
                loop {
                    router.recv(&mut from, 0)?;
                    router.recv(&mut body, 0)?;
                    // Taken, not copied.
                    router.send(std::mem::replace(&mut from, Message::new()), SNDMORE)?;
                    router.send(std::mem::replace(&mut body, Message::new()), 0)?;
                }
            })
            .await
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move {
            let dealer = Context::new().socket(zmq::DEALER)?;
            dealer.connect(&endpoint)?;
            Ok(Box::new(Dealer { socket: dealer, out: VecDeque::new(), read: Message::new() }) as _)
        })
    }

    fn events(&self) -> Option<&dyn Broadcast> {
        Some(self)
    }
}

fn bind(socket: &Socket) -> Result<String> {
    socket.bind("tcp://127.0.0.1:*")?;
    socket.get_last_endpoint()?.map_err(|_| "an endpoint that is no text".into())
}

/// What blocks, where it may.
async fn in_a_thread(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (tell, done) = oneshot::channel();
    thread::spawn(move || tell.send(work()));
    done.await?
}

struct Dealer {
    socket: Socket,
    out: VecDeque<Bytes>,
    read: Message,
}

impl Client for Dealer {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        Box::pin(async move { windowed(&load, self).await })
    }
}

impl Pipe for Dealer {
    fn submit(&mut self, number: u64, payload: &Bytes) -> Result<()> {
        self.out.push_back(numbered(number, payload));
        Ok(())
    }

    async fn echoes(&mut self, numbers: &mut Vec<u64>) -> Result<()> {
        for message in self.out.drain(..) {
            self.socket.send(&message[..], 0)?;
        }
        // Blocks the thread, which has nothing else to do.
        self.socket.recv(&mut self.read, 0)?;
        numbers.push(number_of(&self.read)?);
        while numbers.len() < 1024 {
            match self.socket.recv(&mut self.read, DONTWAIT) {
                Ok(()) => numbers.push(number_of(&self.read)?),
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Broadcast for LibZmq {
    fn publish(&self, ready: Ready, orders: Bursts) -> Doing<'_, ()> {
        Box::pin(async {
            let publisher = Context::new().socket(zmq::PUB)?;
            // No high water mark: by default it drops what a subscriber does not take at once.
            publisher.set_sndhwm(0)?;
            ready(bind(&publisher)?, Vec::new());
            let publish =
                async |number, payload: &Bytes| Ok(publisher.send(&numbered(number, payload)[..], 0)?);
            bursts(orders, publish).await
        })
    }

    fn subscribe(&self, endpoint: String, tally: Tally) -> Doing<'_, ()> {
        Box::pin(async move {
            let subscriber = Context::new().socket(zmq::SUB)?;
            subscriber.set_rcvhwm(0)?;
            subscriber.connect(&endpoint)?;
            subscriber.set_subscribe(b"")?;
            in_a_thread(move || {
                let mut event = Message::new();
                loop {
                    subscriber.recv(&mut event, 0)?;
                    tally.heard(number_of(&event)?);
                }
            })
            .await
        })
    }
}
