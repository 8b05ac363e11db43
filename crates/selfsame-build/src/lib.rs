//! Compiles Cap'n Proto contracts to typed selfsame clients, servers and events.
