//! Where all connections meet that one thread has dialled: a ROUTER of the crate for all of them, as a socket that binds has it. With a DEALER of its own, a
//! connection would take half as much memory again.
//!
//! It deals out what comes: each connection has a mailbox, which its owner empties. If the owner does not, the stranger is not read any more, so a mailbox is
//! bounded. A connection that is the only one is spared this: its owner looks into the hub itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::net::UnixStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::held::encoded_size;
use super::hub::Hub;
use super::inner::INNER_TIMEOUT;
use super::link::{Link, Links, register};
use super::turns::come_back;
use crate::protocol::ConnectionId;

/// Bytes in a mailbox from which on the stranger is not read. What is between the two by then still comes.
const FULL: usize = 1 << 20;

/// What a message weighs besides its frames: they may be empty.
const MESSAGE: usize = 128;

/// Room for so many messages is kept when a mailbox is empty.
const KEPT: usize = 8;

/// Messages that are dealt out before other tasks of the thread have their turn.
const TURN: usize = 64;

/// A hub that has had so many connections gets no more, and goes with the last of them. 10,000: 1 MiB that it keeps.
const CONNECTIONS: u64 = 10_000;

thread_local! {
    /// That of this thread, for new connections. A thread has one `LocalSet`, for as long as it is there.
    static HERE: RefCell<Weak<Exchange>> = const { RefCell::new(Weak::new()) };
}

/// See the module.
pub(crate) struct Exchange {
    pub hub: Rc<Hub>,
    mailboxes: RefCell<HashMap<ConnectionId, Rc<Mailbox>>>,
    /// The task that deals out.
    dealer: RefCell<Option<Waker>>,
}

/// A connection's part in it. When it is dropped nothing comes any more; what came stays in the mailbox.
pub(crate) struct Member {
    pub exchange: Rc<Exchange>,
    pub mailbox: Rc<Mailbox>,
}

/// What came on one connection and was not taken by its owner.
pub(crate) struct Mailbox {
    link: Rc<Link>,
    links: Rc<Links>,
    messages: RefCell<VecDeque<Vec<Bytes>>>,
    weight: Cell<usize>,
    /// Its owner has gone.
    closed: Cell<bool>,
}

impl Exchange {
    /// That of this thread. It stays for the next connection, until it is worn out.
    pub async fn here() -> io::Result<Rc<Exchange>> {
        if let Some(exchange) = Exchange::with_room() {
            return Ok(exchange);
        }
        let hub = Hub::open().await?;
        // Another task may have been as quick, if that had to wait.
        Ok(Exchange::with_room().unwrap_or_else(|| Exchange::begin(hub)))
    }

    fn with_room() -> Option<Rc<Exchange>> {
        HERE.with_borrow(Weak::upgrade).filter(|exchange| exchange.hub.joined() < CONNECTIONS)
    }

    fn begin(hub: Rc<Hub>) -> Rc<Exchange> {
        let exchange = Rc::new(Exchange { hub, mailboxes: RefCell::default(), dealer: RefCell::default() });
        HERE.set(Rc::downgrade(&exchange));
        let there = exchange.clone();
        spawn_local(poll_fn(move |cx| there.poll_deal(cx)));
        exchange
    }

    /// Puts what comes into the mailboxes, until nothing can come any more.
    fn poll_deal(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.hub.joined() >= CONNECTIONS && self.mailboxes.borrow().is_empty() {
            return Poll::Ready(());
        }
        register(&self.dealer, cx);
        for _ in 0..TURN {
            let (id, frames) = ready!(self.hub.poll_receive(cx));
            if let Some(mailbox) = self.mailboxes.borrow().get(&id) {
                mailbox.put(frames);
            }
        }
        come_back(cx);
        Poll::Pending
    }

    /// The next message of a connection, if it is the only one. Who has polled this, and goes before the connection has ended, says so by
    /// [`deal`](Exchange::deal); so does whoever comes.
    pub fn poll_sole(&self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        if self.mailboxes.borrow().len() > 1 {
            return Poll::Pending;
        }
        for _ in 0..TURN {
            let (of, frames) = ready!(self.hub.poll_receive(cx));
            if of == id {
                return Poll::Ready(frames);
            }
        }
        come_back(cx); // all that was said on connections that have gone
        Poll::Pending
    }

    /// From now on what comes is dealt out.
    pub fn deal(&self) {
        if let Some(dealer) = self.dealer.take() {
            dealer.wake();
        }
    }

    /// A mailbox for a connection.
    pub fn enter(self: Rc<Self>, link: Rc<Link>, links: Rc<Links>) -> Member {
        let mailbox = Rc::new(Mailbox {
            link,
            links,
            messages: RefCell::default(),
            weight: Cell::new(0),
            closed: Cell::new(false),
        });
        self.mailboxes.borrow_mut().insert(mailbox.link.id, mailbox.clone());
        self.deal();
        Member { exchange: self, mailbox }
    }
}

impl Member {
    /// Joins the connection to the hub; returns the private side, and what was read there already. When it returns, the hub can send.
    pub async fn join(&self) -> io::Result<(UnixStream, Vec<u8>)> {
        let Mailbox { link, links, .. } = &*self.mailbox;
        let hub = &self.exchange.hub;
        let joined = hub.join(link.id).await?;
        let known = poll_fn(|cx| {
            links.register_owner(cx);
            if link.announced.get() { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(INNER_TIMEOUT, known).await.inspect_err(|_| hub.retire())?;
        Ok(joined)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.exchange.mailboxes.borrow_mut().remove(&self.mailbox.link.id);
        self.exchange.deal(); // the last one of a hub that is worn out takes it along
    }
}

impl Mailbox {
    fn put(&self, frames: Vec<Bytes>) {
        if !self.link.announced.replace(true) {
            // Our own message: the hub knows the connection now.
        } else if !self.closed.get() {
            self.weigh(self.weight.get() + weight(&frames));
            self.messages.borrow_mut().push_back(frames);
        }
        self.links.wake_owner();
    }

    /// The oldest message.
    pub fn take(&self) -> Option<Vec<Bytes>> {
        let mut messages = self.messages.borrow_mut();
        let frames = messages.pop_front()?;
        self.weigh(self.weight.get() - weight(&frames));
        if messages.is_empty() {
            messages.shrink_to(KEPT);
        }
        Some(frames)
    }

    /// Nobody takes anything any more.
    pub fn close(&self) {
        self.closed.set(true);
        self.messages.take();
        self.weigh(0);
    }

    fn weigh(&self, weight: usize) {
        self.weight.set(weight);
        self.link.pause(weight >= FULL);
    }
}

fn weight(frames: &[Bytes]) -> usize {
    MESSAGE + size_of_val(frames) + encoded_size(frames)
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_thread_has_one_until_it_is_worn_out() {
        let work = async {
            let (first, second) = tokio::join!(Exchange::here(), Exchange::here());
            let (first, second) = (first.unwrap(), second.unwrap());
            assert!(Rc::ptr_eq(&first, &second), "two tasks at once");
            assert!(Rc::ptr_eq(&first, &Exchange::here().await.unwrap()));
            first.hub.retire();
            first.deal();
            let renewed = Exchange::here().await.unwrap();
            assert!(!Rc::ptr_eq(&first, &renewed));
            assert!(Rc::ptr_eq(&renewed, &Exchange::here().await.unwrap()));

            let (worn_out, kept) = (Rc::downgrade(&first), Rc::downgrade(&renewed));
            drop((first, second, renewed));
            while worn_out.upgrade().is_some() {
                yield_now().await; // its task has to run
            }
            assert!(kept.upgrade().is_some(), "it is there for the next");
        };
        LocalSet::new().run_until(work).await;
    }
}
