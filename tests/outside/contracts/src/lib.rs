//! Contracts that several services share.

selfsame::include_contracts!(pub mod api);
