@0xc667b5247b61c3a2;
# The header frame of every selfsame message. docs/wire.md explains it to the byte, with a worked example.
#
# Durations are in milliseconds, times in milliseconds since the Unix epoch. Texts are for people, and may be cut.

struct Header {
  # The root of the header frame, which is a Cap'n Proto message in standard stream framing, unpacked.

  entries @0 :List(Entry);
  # Handled one after another, in this order; each is answered by itself. One that is bad does not spoil the others.
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
    # The body is the method's parameters.
    reply @7 :Reply;
    # The body is the method's result, or the fault that it declined with.
    cancel @8 :Cancel;
    ack @9 :Ack;
    ping @10 :UInt64;
    # Answered by a pong with the same number.
    pong @11 :UInt64;
    goodbye @12 :Goodbye;
    event @13 :Event;
    # The body is the event.
    numbers @14 :Numbers;
  }
}

struct Id128 {
  # 128 bits; all zeros, or no pointer, is none.

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
  # Its type id.
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
  # The id of the hello that this answers.
  version @1 :UInt16;
  # The version that both are going to speak: the lower of the two.
  registration @2 :Id128;
  # Under which the client's calls run from now on: the resumed one if it is still live, else a new one.
  incarnation @3 :UInt64;
  # One life of the server process. Every call names the current one.
  stamp @4 :UInt64;
  # Unique to this welcome.
  store @5 :Id128;
  # Where the server's records are kept.
  generation @6 :UInt64;
  # Of the store's content: a store that lost its records is another generation.
  level @7 :Level;
  # What the store survives.
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
  memory @0;   # Lives and dies with the server's process.
  durable @1;  # A file: survives the process.
  shared @2;   # A database that the replicas of a service share.
  atomic @3;   # As shared, and a call's effect and its record commit together.
}

struct Goodbye {
  # The sender is going away: open no new calls here.
  reason @0 :Text;
  refusal @1 :Refusal;
  # Why a hello, or a message that could not be decoded, was refused; `none` at an orderly shutdown.
}

# ---- calls ----

struct CallId {
  # The nonce on the wire: the identity of a call, the same in all its attempts.

  union {
    sequenced @0 :UInt64;
    # A number of this registration, from 1.
    keyed :group {
      # A key that outlives registrations. All four numbers are fixed when the nonce is made.
      high @1 :UInt64;
      low @2 :UInt64;
      issued @3 :UInt64;
      # Milliseconds since the Unix epoch, by the clock of whoever minted the nonce.
      expiry @4 :UInt64;
      # From then on the nonce is refused.
    }
  }
}

struct Call {
  # One attempt of a call. Here, in a reply and in an event, numbers that belong together are groups: there is no pointer to follow.

  registration :group {
    # From a welcome of this server; never none.
    high @0 :UInt64;
    low @1 :UInt64;
  }
  incarnation @2 :UInt64;
  # The current one, from this connection's welcome.
  firstStamp @3 :UInt64;
  # The stamp of the welcome under which the call was first sent.
  id :group {
    # The nonce: as in a `CallId`.
    union {
      sequenced @4 :UInt64;
      keyed :group {
        high @5 :UInt64;
        low @6 :UInt64;
        issued @7 :UInt64;
        expiry @8 :UInt64;
      }
    }
  }
  interface @9 :UInt64;
  # The type id of the interface that declares the method.
  method @10 :UInt16;
  # Its ordinal there.
  retry @11 :RetryClass;
  # As the client's contract has it. The stricter of both sides' holds.
  attempt @12 :UInt32;
  # From 1; never repeats in a call.
  timeLeft @13 :UInt32;
  # Until the caller's deadline, in milliseconds. Relative, so that clocks need not agree.
  ackedBelow @14 :UInt64;
  # All sequenced calls of this registration below this number are closed at the client, and the server may drop what it keeps of them.
  trace :group {
    # W3C trace context, version 00. With an id or a parent of zeros it is invalid, hence none.
    high @15 :UInt64;
    low @16 :UInt64;
    parent @17 :UInt64;
    # The span of the sender.
    flags @18 :UInt8;
    # Bit 0: sampled.
  }
  metadata @19 :List(Metadatum);
  # For the handler. The library gives no name a meaning.
  issued @20 :UInt64;
  # When the caller made the call, by its clock, in milliseconds since the Unix epoch; the same in every attempt. Nonces of calls that
  # the handler makes within this one are issued then too. A keyed nonce bears its own issue time; this is then ignored.
}

enum RetryClass {
  once @0;        # Retried under the same nonce; the server keeps a record: one effect.
  idempotent @1;  # Running it twice is the same as running it once: retried freely, no record.
  readOnly @2;    # Has no effect: retried freely, no record.
  never @3;       # Sent once and never again.
}

struct Metadatum {
  name @0 :Text;
  value @1 :Data;
}

struct Reply {
  # The answer to one attempt.

  registration :group {
    # This, the id and the attempt are those of the call.
    high @0 :UInt64;
    low @1 :UInt64;
  }
  id :group {
    union {
      sequenced @2 :UInt64;
      keyed :group {
        high @3 :UInt64;
        low @4 :UInt64;
        issued @5 :UInt64;
        expiry @6 :UInt64;
      }
    }
  }
  attempt @7 :UInt32;
  replayed @8 :Bool;
  # From the record of an earlier attempt.
  union {
    ok @9 :Void;
    # The body is the method's result.
    declined @10 :UInt64;
    # The contract's typed no: the type id of the fault; the body is the fault.
    failed @11 :Text;
    # The handler failed, and this is recorded. What it did before is unknown.
    refused @12 :Refused;
  }
}

struct Refused {
  # An error of the library, before the handler started or in place of its answer.

  refusal @0 :Refusal;
  ambiguous @1 :Bool;
  # False: this attempt certainly did not run and never will. True: that is not known.
  retryAfter @2 :UInt32;
  # Do not retry earlier, in milliseconds; 0 = the caller's back-off decides.
  message @3 :Text;
}

enum Refusal {
  none @0;             # Not in a reply.
  helloFirst @1;       # The call names another incarnation of the server: say hello, then send it again.
  inProgress @2;       # The call runs already, and too many attempts wait for it.
  overloaded @3;       # The server, or a cap of its tables, is full.
  shuttingDown @4;     # The server is draining.
  unavailable @5;      # The handler, or the store, could not serve the call and did nothing.
  interrupted @6;      # The handler stopped half-way, and running it again is safe.
  mismatch @7;         # The nonce was used for another method or other parameters.
  stale @8;            # The client had closed this number before.
  sessionUnknown @9;   # The server does not know the registration (any more).
  sessionShared @10;   # Another client uses the same registration: a copied process or machine.
  storeChanged @11;    # The store is another than the one under which the call was first sent, or has lost its records.
  expired @12;         # The keyed nonce is past its expiry, or older than the store.
  replyEvicted @13;    # The call ran, but its reply was too large to keep.
  cancelled @14;       # The caller cancelled the call before it started.
  deadline @15;        # The call's time was up before it started.
  unknownMethod @16;   # The server has no such interface or method.
  incompatible @17;    # Client and server disagree about the contract or about the version of this protocol.
  malformed @18;       # A message, an entry or a body cannot be decoded.
  tooLarge @19;        # A message, a header, a body or metadata exceed a limit.
  denied @20;          # The peer may not do this.
  recordedUnknown @21; # The server stopped while the call ran. Whether it had an effect is not known, and never will be.
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
  # For one slow call must not keep the records of all later ones: numbers at or above `below` that are closed too.
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
  trace :group {
    # As in a call.
    high @4 :UInt64;
    low @5 :UInt64;
    parent @6 :UInt64;
    flags @7 :UInt8;
  }
}

struct Numbers {
  # The last number of each topic and key: the answer to a sync, and from time to time a beacon. Its topic frame is not a topic but
  # `selfsame/sync/` with the sync in 16 hexadecimal digits, or `selfsame/beacon`.

  publisher @0 :UInt64;
  # As in an event.
  sync @1 :UInt64;
  # The sync that this answers, 0 in a beacon.
  last @2 :List(Last);
  more @3 :Bool;
  # The list was cut at the publisher's limit: what is not in it may have a number all the same.
  interval @4 :UInt32;
  # In the answer to a sync: beacons follow in this interval, in milliseconds. Who hears nothing for three of them has lost the publisher.
  denied @5 :List(Text);
  # In the answer to a sync: topics (without key) that this subscriber asked for and may not read.
}

struct Last {
  topic @0 :Data;
  # The whole topic frame.
  epoch @1 :UInt64;
  # This and the sequence are those of the last event.
  sequence @2 :UInt64;
}

# ---- at rest ----

struct SavedCall {
  # What `Call::to_bytes` gives: enough to send a keyed call again after the client crashed. The root of a message of its own, in stream
  # framing; it does not travel.

  version @0 :UInt16;
  # Of this struct's meaning: 2. Of version 1 there may be bytes without metadata.
  id @1 :CallId;
  # Keyed: a sequenced nonce ends with its client.
  interface @2 :UInt64;
  method @3 :UInt16;
  body @4 :Data;
  # As it is to be sent: in stream framing.
  metadata @5 :List(Metadatum);
  # The call's own: what a channel adds to its calls is added when the call is sent.
}
