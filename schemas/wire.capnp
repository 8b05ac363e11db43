@0xc667b5247b61c3a2;
# The header frame of every selfsame message. docs/wire.md explains it to the byte, with a worked example.

struct Header {
  entries @0 :List(Entry);
  # Handled one after another, in this order; each is answered by itself.
}

struct Entry {
  # One call, reply, event, … of a message, and where its body is. Kinds that a peer does not know, it ignores.

  frame @0 :UInt16;
  # The frame that holds the body, counted from the one after the header (0). Meaningless if `length` is 0.
  offset @1 :UInt32;
  # Where the body begins in that frame, in bytes; a multiple of 8.
  length @2 :UInt32;
  # The length of the body in bytes; 0 = no body. A body is a Cap'n Proto message in standard stream framing.

  union {
    unknown @3 :Void;
    # Never sent. A reader whose schema is older sees a newer kind as a value out of range, and ignores it likewise.
    hello @4 :Hello;
    welcome @5 :Welcome;
    call @6 :Call;
    reply @7 :Reply;
    cancel @8 :Cancel;
    ack @9 :Ack;
    ping @10 :UInt64;
    # Answered by a pong with the same number.
    pong @11 :UInt64;
    goodbye @12 :Goodbye;
    event @13 :Event;
    numbers @14 :Numbers;
  }
}

struct Id128 {
  high @0 :UInt64;
  low @1 :UInt64;
}

# ---- connection ----

struct Hello {
  # The client's first entry on a connection, and again whenever it is told `helloFirst`.
  id @0 :UInt64;
  # Chosen by the client; the welcome echoes it, so that a welcome to an older hello is not taken for the answer.
  version @1 :UInt16;
  # The highest version of this protocol that the client speaks. This document: 1.
  session @2 :Id128;
  # Random, of the client's life. Names it in logs; the identity of its calls is the registration.
  resume @3 :Id128;
  # The registration to resume, or 0 for none.
  ackedBelow @4 :UInt64;
  # As in a call.
  contracts @5 :List(Contract);
  # The interfaces that this client is going to call.
}

struct Contract {
  interface @0 :UInt64;
  fingerprint @1 :UInt64;
  # Of all that the interface's compiled schema says.
  shape @2 :List(Member);
  # In a welcome, for a contract whose fingerprint differs from the client's: the members of the server's.
}

struct Member {
  # Two contracts are compatible if each member that both have is of the same form in both.
  id @0 :UInt64;
  form @1 :UInt64;
}

struct Welcome {
  # The server's answer to a hello. No call is sent on a connection before its welcome.
  hello @0 :UInt64;
  version @1 :UInt16;
  # The version that both are going to speak: the lower of the two.
  registration @2 :Id128;
  # Under which the client's calls run from now on: the resumed one if it is still live, else a new one.
  incarnation @3 :UInt64;
  # One life of the server process. Every call names the current one.
  stamp @4 :UInt64;
  # Unique to this welcome.
  store @5 :Id128;
  generation @6 :UInt64;
  # Of the store's content: a store that lost its records is another generation.
  level @7 :Level;
  ordinal @8 :UInt64;
  # The count of the store's incarnations, 0 if the store does not count them.
  retention @9 :UInt32;
  # How long an idle session is kept, in milliseconds.
  window @10 :UInt32;
  # Calls that may be open at once under one registration.
  heartbeat @11 :UInt32;
  # The interval at which each side pings an otherwise silent connection, in milliseconds.
  bodyLimit @12 :UInt32;
  # The longest body that the server takes, in bytes.
  contracts @13 :List(Contract);
  # Of those that the hello named: the ones whose fingerprints differ, with the server's shape.
}

enum Level {
  memory @0;
  durable @1;
  shared @2;
  atomic @3;
}

struct Goodbye {
  # The sender is going away: open no new calls here.
  reason @0 :Text;
  refusal @1 :Refusal;
  # Why a hello, or a message that could not be decoded, was refused; `none` at an orderly shutdown.
}

# ---- calls ----

struct CallId {
  # The nonce on the wire.
  union {
    sequenced @0 :UInt64;
    # A number of this registration, from 1.
    keyed :group {
      high @1 :UInt64;
      low @2 :UInt64;
      issued @3 :UInt64;
      # Milliseconds since the Unix epoch, by the clock of whoever minted the nonce.
      expiry @4 :UInt64;
    }
  }
}

struct Call {
  registration @0 :Id128;
  incarnation @1 :UInt64;
  # The current one, from this connection's welcome.
  firstStamp @2 :UInt64;
  # The stamp of the welcome under which the call was first sent.
  id @3 :CallId;
  interface @4 :UInt64;
  method @5 :UInt16;
  retry @6 :RetryClass;
  # As the client's contract has it. The stricter of both sides' holds.
  attempt @7 :UInt32;
  # From 1; never repeats in a call.
  timeLeft @8 :UInt32;
  # Until the caller's deadline, in milliseconds. Relative, so that clocks need not agree.
  ackedBelow @9 :UInt64;
  # All sequenced calls of this registration below this number are closed at the client.
  trace @10 :Trace;
  metadata @11 :List(Metadatum);
  issued @12 :UInt64;
  # When the caller made the call, by its clock, in milliseconds since the Unix epoch; the same in every attempt. Nonces of calls that
  # the handler makes within this one are issued then too. A keyed nonce bears its own issue time; this is then ignored.
}

enum RetryClass {
  once @0;
  idempotent @1;
  readOnly @2;
  never @3;
}

struct Trace {
  # W3C trace context, version 00.
  high @0 :UInt64;
  low @1 :UInt64;
  parent @2 :UInt64;
  flags @3 :UInt8;
}

struct Metadatum {
  name @0 :Text;
  value @1 :Data;
}

struct Reply {
  registration @0 :Id128;
  id @1 :CallId;
  attempt @2 :UInt32;
  replayed @3 :Bool;
  # From the record of an earlier attempt.
  union {
    ok @4 :Void;
    # The body is the method's result.
    declined @5 :UInt64;
    # The contract's typed no: the type id of the fault; the body is the fault.
    failed @6 :Text;
    # The handler failed, and this is recorded. What it did before is unknown.
    refused @7 :Refused;
  }
}

struct Refused {
  refusal @0 :Refusal;
  ambiguous @1 :Bool;
  # False: this attempt certainly did not run and never will. True: that is not known.
  retryAfter @2 :UInt32;
  # Do not retry earlier, in milliseconds; 0 = the caller's back-off decides.
  message @3 :Text;
}

enum Refusal {
  none @0;
  helloFirst @1;
  inProgress @2;
  overloaded @3;
  shuttingDown @4;
  unavailable @5;
  interrupted @6;
  mismatch @7;
  stale @8;
  sessionUnknown @9;
  sessionShared @10;
  storeChanged @11;
  expired @12;
  replyEvicted @13;
  cancelled @14;
  deadline @15;
  unknownMethod @16;
  incompatible @17;
  malformed @18;
  tooLarge @19;
  denied @20;
  recordedUnknown @21;
}

struct Cancel {
  # Nobody waits for this call any more. Never frees its number.
  registration @0 :Id128;
  id @1 :CallId;
}

struct Ack {
  # When the client has no call at hand that could carry its acknowledgements.
  registration @0 :Id128;
  below @1 :UInt64;
  # As a call's `ackedBelow`.
  closed @2 :List(Range);
  # Numbers at or above `below` that are closed too.
}

struct Range {
  first @0 :UInt64;
  last @1 :UInt64;
  # Inclusive.
}

# ---- events ----

struct Event {
  # Its message is (topic frame, header, bodies): topic frame = topic, "/", key. All events of a message share it.
  publisher @0 :UInt64;
  # The publisher's incarnation, random.
  epoch @1 :UInt64;
  # Counts up when the publisher, having forgotten a key, numbers it anew.
  sequence @2 :UInt64;
  # Of this topic and key in this epoch, from 1.
  type @3 :UInt64;
  # The type id of the event's struct.
  trace @4 :Trace;
}

struct Numbers {
  # The last number of each topic and key: the answer to a sync, and from time to time a beacon.
  publisher @0 :UInt64;
  sync @1 :UInt64;
  # The sync that this answers, 0 in a beacon.
  last @2 :List(Last);
  more @3 :Bool;
  # The list was cut at the publisher's limit.
  interval @4 :UInt32;
  # In the answer to a sync: beacons follow in this interval, in milliseconds. Who hears nothing for three of them has lost the publisher.
}

struct Last {
  topic @0 :Data;
  # The whole topic frame.
  epoch @1 :UInt64;
  sequence @2 :UInt64;
}

# ---- at rest ----

struct SavedCall {
  # What `Call::to_bytes` gives: enough to send a keyed call again after the client crashed.
  version @0 :UInt16;
  id @1 :CallId;
  interface @2 :UInt64;
  method @3 :UInt16;
  body @4 :Data;
}
