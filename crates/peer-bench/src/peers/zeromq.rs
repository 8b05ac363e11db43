//! The bare `zeromq` crate: DEALER and ROUTER, PUB and SUB, as selfsame is built upon and without what it puts in front and on top.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures::future::{Either, poll_fn, select};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, PubSocket, RouterSocket, Socket, SocketRecv, SocketSend,
    SubSocket, ZmqMessage,
};

use crate::Result;
use crate::events::{Tally, bursts};
use crate::load::{Load, Meter, Pipe, windowed};
use crate::peer::{Broadcast, Bursts, Client, Doing, Peer, Ready, number_of, numbered};

pub struct ZeroMq;

impl Peer for ZeroMq {
    fn name(&self) -> &'static str {
        "zeromq"
    }

    fn about(&self) -> &'static str {
        "the zeromq crate alone, DEALER to ROUTER: a message a call"
    }

    fn serve(&self, ready: Ready) -> Doing<'_, ()> {
        Box::pin(async {
            let mut router = RouterSocket::new();
            ready(router.bind("tcp://127.0.0.1:0").await?.to_string(), Vec::new());
            loop {
                let message = router.recv().await?;
                router.send(message).await?;
            }
        })
    }

    fn connect(&self, endpoint: String) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async move { Ok(Box::new(Dealer::connect(&endpoint).await?) as _) })
    }

    fn events(&self) -> Option<&dyn Broadcast> {
        Some(self)
    }
}

/// A DEALER of the crate. The peers with a gate in front of the server alone use it too.
pub struct Dealer {
    sender: DealerSendHalf,
    receiver: DealerRecvHalf,
    out: VecDeque<ZmqMessage>,
}

impl Dealer {
    pub async fn connect(endpoint: &str) -> Result<Dealer> {
        let mut socket = DealerSocket::new();
        socket.connect(endpoint).await?;
        let (sender, receiver) = socket.split();
        Ok(Dealer { sender, receiver, out: VecDeque::new() })
    }
}

impl Client for Dealer {
    fn drive(&mut self, load: Load) -> Doing<'_, Meter> {
        Box::pin(async move { windowed(&load, self).await })
    }
}

impl Pipe for Dealer {
    fn submit(&mut self, number: u64, payload: &Bytes) -> Result<()> {
        self.out.push_back(numbered(number, payload).into());
        Ok(())
    }

    async fn echoes(&mut self, numbers: &mut Vec<u64>) -> Result<()> {
        let Dealer { sender, receiver, out } = self;
        // A send must not be dropped half-way, and while it waits the server may be waiting for us to read.
        let mut sending = pin!(async {
            while let Some(message) = out.pop_front() {
                sender.send(message).await?;
            }
            Result::<()>::Ok(())
        });
        loop {
            match select(sending.as_mut(), receiver.recv()).await {
                Either::Left((sent, _)) => break sent?,
                Either::Right((message, _)) => numbers.push(number(&message?)?),
            }
        }
        if numbers.is_empty() {
            numbers.push(number(&receiver.recv().await?)?);
        }
        // Whatever else is there already.
        while numbers.len() < 1024 {
            let more = poll_fn(|cx| match receiver.recv().as_mut().poll(cx) {
                Poll::Ready(message) => Poll::Ready(Some(message)),
                Poll::Pending => Poll::Ready(None),
            });
            match more.await {
                Some(message) => numbers.push(number(&message?)?),
                None => break,
            }
        }
        Ok(())
    }
}

fn number(message: &ZmqMessage) -> Result<u64> {
    number_of(message.get(0).ok_or("a message without a frame")?)
}

impl Broadcast for ZeroMq {
    fn publish(&self, ready: Ready, orders: Bursts) -> Doing<'_, ()> {
        Box::pin(async {
            let mut publisher = PubSocket::new();
            ready(publisher.bind("tcp://127.0.0.1:0").await?.to_string(), Vec::new());
            bursts(orders, async |number, payload: &Bytes| {
                Ok(publisher.send(numbered(number, payload).into()).await?)
            })
            .await
        })
    }

    fn subscribe(&self, endpoint: String, tally: Tally) -> Doing<'_, ()> {
        Box::pin(async move {
            let mut subscriber = SubSocket::new();
            subscriber.connect(&endpoint).await?;
            subscriber.subscribe("").await?;
            loop {
                tally.heard(number(&subscriber.recv().await?)?);
            }
        })
    }
}
