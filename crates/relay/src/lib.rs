//! A relay between clients and a server that drops, doubles, delays and reorders whole messages, and cuts connections; as its seed decides. It knows where a
//! message begins and ends, and nothing of what it says: so it does to calls what a bad network and crashes can do to them, and no more. Beside it, in [`honest`], the bytes of a ZMTP peer that is written by hand.

mod dice;
pub mod honest;
mod relay;
mod zmtp;

pub use dice::Dice;
pub use relay::{Counts, Faults, Relay};
