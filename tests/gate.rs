//! Goal: no stranger can end, hang or fill the process, or disturb another stranger's connection; and what was said arrives.
//!
//! Method: a `Router` and `Dealer`s on their IO threads, over TCP, Unix sockets and TLS, against each other and against strangers written by hand
//! over blocking std sockets, from another thread. Time-outs are set short where one is to strike, and long where none is; no test sleeps.

mod gate {
    pub mod stranger;
    #[path = "../transport/mod.rs"]
    pub mod transport;

    mod dialling;
    mod draining;
    mod echo;
    mod hostile;
    mod limits;
    mod many_threads;
    mod sharing;
    mod slow;

    #[test]
    fn the_same_over_a_unix_socket() {
        transport::again_over_ipc("gate::");
    }

    #[test]
    fn the_same_over_several_threads() {
        transport::again_with_threads("gate::");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_same_over_tls() {
        transport::again_over_tls("gate::");
    }
}
