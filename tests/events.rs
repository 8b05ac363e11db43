//! Goal: whatever happens to subscribers, publishers and the network between them, an event arrives once, or is told as missed; and
//! nobody suffers for another.
//!
//! Method: publishers and subscribers over real TCP, through a relay that stalls and cuts, and against SUB and PUB sockets written by hand.
//! No test sleeps: each waits for what it wants to see, with patience.

mod events {
    pub mod contract;
    pub mod peers;

    mod delivery;
    mod hostile;
    mod rules;
    mod trouble;
}
