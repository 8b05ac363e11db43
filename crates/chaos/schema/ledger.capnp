@0xb6669316f44ac317;
# What the clients of a chaos run ask for: a ledger of counters, and notes about what was counted. One method of each retry class, and one that is made of
# another service's.

using Selfsame = import "/selfsame.capnp";

interface Ledger $Selfsame.Raises(Declined).it {
  add @0 (what :Intention) -> (receipt :Receipt);
  # Adds one to a counter. Once.

  addAndNote @1 (what :Intention) -> (receipt :Receipt, note :Receipt);
  # Adds one, and leaves a note of it with another server, within the request. Once, both.

  assign @2 (what :Intention) -> (receipt :Receipt) $Selfsame.retry(idempotent);
  # May have its effect more than once.

  look @3 (what :Intention) -> (receipt :Receipt) $Selfsame.retry(readOnly);
  # Has no effect.

  shout @4 (what :Intention) -> (receipt :Receipt) $Selfsame.retry(never);
  # Sent once and never again.
}

interface Notes {
  # Served beside every ledger, and called by those of the other servers.

  note @0 (what :Intention) -> (receipt :Receipt);
  # Writes down that somebody counted. Once.
}

struct Intention {
  # One call, as its client means it.

  call @0 :Text;
  # Names it, over all lives of the client.

  counter @1 :UInt16;
  # What to count.

  wish @2 :Wish;
  # How to answer.

  pause @3 :UInt16;
  # How long to work on it, in milliseconds.

  padding @4 :Data;
  # Makes it big.

  replySize @5 :UInt32;
  # Makes the reply big, in bytes.
}

enum Wish {
  # How a handler is to answer.
  reply @0;       # With a receipt, after the effect.
  decline @1;     # With the contract's no, without an effect.
  fail @2;        # With a failure, after the effect.
  unavailable @3; # Half of the time: "nothing was done". Else as reply.
  interrupt @4;   # Half of the time: "stopped half-way", after calls within the request alone. Else as reply.
}

struct Receipt {
  token @0 :UInt64;
  # Drawn by lot in the handler: two executions never give the same.

  padding @1 :Data;
  # As much as was asked for.
}

struct Declined {
  # The typed no of this contract.

  token @0 :UInt64;
  # As in a receipt.
}
