//! Goal: no stranger can end, hang or fill the process, or disturb another stranger's connection; and what was said arrives.
//!
//! Method: a `Router` and `Dealer`s on their IO threads, over real TCP and Unix sockets, against each other and against strangers written by hand
//! over blocking std sockets, from another thread. Time-outs are set short where one is to strike, and long where none is; no test sleeps.

mod gate {
    pub mod stranger;

    mod dialling;
    mod draining;
    mod echo;
    mod hostile;
    mod limits;
    mod slow;
}
