//! Goal: whatever happens to subscribers, publishers and the network between them, an event arrives once, or is told as missed; and
//! nobody suffers for another.
//!
//! Method: publishers and subscribers over TCP, Unix sockets and TLS, through a relay that stalls and cuts, and against SUB and PUB sockets written by hand.
//! No test sleeps: each waits for what it wants to see, with patience.

mod events {
    pub mod contract;
    pub mod peers;
    #[path = "../transport/mod.rs"]
    pub mod transport;

    mod delivery;
    mod hostile;
    mod rules;
    mod trouble;

    #[test]
    fn the_same_over_a_unix_socket() {
        transport::again_over_ipc("events::");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_same_over_tls() {
        transport::again_over_tls("events::");
    }
}
