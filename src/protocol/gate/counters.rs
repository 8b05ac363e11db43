//! What happened at a gate, each reason with a counter of its own.

/// What happened at the gate of a server or a publisher since it was bound. All only ever rise.
///
/// Connections that were `accepted` and neither turned away nor ended during the handshake have `opened`; each of those is `closed` in the end, and counted
/// once more under the reason, unless this side ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateCounters {
    /// Connections accepted from the system.
    pub accepted: u64,
    /// Of these, closed at once: as many were open as [`Gate::connections`](crate::Gate::connections) allows, or the process has descriptors for.
    pub turned_away: u64,
    /// Of these, closed at once: as many were open from the same address as [`Gate::connections_per_address`](crate::Gate::connections_per_address)
    /// allows.
    pub turned_away_by_address: u64,
    /// Of these, gone before the handshake was done, or refused by it: another protocol, another version, a wrong socket type.
    pub refused: u64,
    /// Of the refused ones, those that TLS refused: no certificate or a wrong one, a wrong version, or no TLS at all.
    pub insecure: u64,
    /// Of those accepted, closed because the handshake took longer than [`Gate::handshake_timeout`](crate::Gate::handshake_timeout).
    pub handshake_timeouts: u64,
    /// Of these, closed because their handshake dragged on while as many were under way as [`Gate::handshakes`](crate::Gate::handshakes) allows.
    pub handshakes_crowded_out: u64,
    /// Connections that came through the handshake.
    pub opened: u64,
    /// Connections that ended after they had opened, for whatever reason.
    pub closed: u64,
    /// Of these, ended by the peer in an orderly way.
    pub ended_by_peer: u64,
    /// Of these, broken: reset, or the host vanished.
    pub broken: u64,
    /// Of these, closed for a frame with reserved bits in its flags.
    pub bad_flags: u64,
    /// Of these, closed for a frame longer than [`Gate::frame_bytes`](crate::Gate::frame_bytes).
    pub frames_too_long: u64,
    /// Of these, closed for a message of more frames than [`Gate::frames`](crate::Gate::frames).
    pub too_many_frames: u64,
    /// Of these, closed for a message longer than [`Gate::message_bytes`](crate::Gate::message_bytes).
    pub messages_too_long: u64,
    /// Of these, closed for a command that is neither PING nor PONG, or does not parse.
    pub bad_commands: u64,
    /// Of these, closed for more commands than [`Gate::commands_per_second`](crate::Gate::commands_per_second).
    pub too_many_commands: u64,
    /// Of these, closed because all unfinished messages together took more than [`Gate::unfinished_bytes`](crate::Gate::unfinished_bytes), and theirs weighed
    /// most.
    pub unfinished: u64,
    /// Of these, closed because the buffers that long messages had left behind took more than [`Gate::buffer_bytes`](crate::Gate::buffer_bytes) together, and
    /// theirs weighed most.
    pub buffers: u64,
    /// Of these, closed because no whole message came within [`Gate::first_message_timeout`](crate::Gate::first_message_timeout).
    pub no_first_message: u64,
    /// Of these, closed because they were silent for longer than they might be.
    pub idle: u64,
    /// Of these, closed because they did not take what they were sent: [`Gate::outstanding_bytes`](crate::Gate::outstanding_bytes),
    /// [`Gate::outstanding_bytes_in_all`](crate::Gate::outstanding_bytes_in_all) or [`Gate::write_timeout`](crate::Gate::write_timeout).
    pub too_slow: u64,
    /// Times that a connection was not read for a while, because it was over [`Gate::messages_per_second`](crate::Gate::messages_per_second) or
    /// [`Gate::bytes_per_second`](crate::Gate::bytes_per_second). It was not closed for that.
    pub throttled: u64,
    /// Times that accepting failed, mostly for want of descriptors; after each the gate rests for a moment.
    pub accept_errors: u64,
    /// Times that the socket behind the gate was renewed, as it is after 50,000 connections.
    pub renewals: u64,
    /// Connections closed, in an orderly way, because they were the last ones of a socket that was renewed eight times since.
    pub renewed: u64,
}

impl GateCounters {
    /// Connections closed because the peer broke the protocol, or a limit on what it may send.
    pub fn violations(&self) -> u64 {
        self.bad_flags
            + self.frames_too_long
            + self.too_many_frames
            + self.messages_too_long
            + self.bad_commands
            + self.too_many_commands
            + self.unfinished
    }
}
