//! Bad input and bad luck of a durable store's file: damaged, foreign, locked, unreadable, or on a disk that is full. Each is a clear error, never a panic,
//! and never another content; and a file that is refused is left as it was, byte for byte.
//!
//! Crashes at every step of the disk are tested beside the store, where its disk can be replaced.

#![cfg(feature = "redb")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use selfsame::protocol::dedup::Imprint;
use selfsame::protocol::store::{Done, Intent, Op, Opened, StoreEvent, Ticket};
use selfsame::protocol::wire::Answer;
use selfsame::protocol::{CallId, Incarnation, Key, PrincipalId, Registration, WallTime};
use selfsame::store::{Link, Opener};
use selfsame::{Spin, Store};

const SESSION: Registration = Registration(1);

fn opener() -> Opener {
    Opener { incarnation: Incarnation(1), retention: Duration::from_secs(60), spin: Spin::default() }
}

async fn try_open(path: &Path) -> Result<(Link, Opened), String> {
    let link = Store::durable(path).open(opener()).await.map_err(|error| error.to_string())?;
    let mut link = link.expect("a durable store has a link");
    match link.events.recv().await {
        Some(StoreEvent::Opened(opened)) => Ok((link, *opened)),
        other => panic!("opened comes first, not {other:?}"),
    }
}

async fn open(path: &Path) -> (Link, Opened) {
    try_open(path).await.expect("it opens")
}

/// Asks for all, and waits for all.
async fn ask(link: &mut Link, ops: Vec<Op>) -> Vec<Done> {
    let count = ops.len();
    for (number, op) in ops.into_iter().enumerate() {
        link.ops.send((Ticket(number as u64), op)).expect("the store listens");
    }
    let mut done = Vec::new();
    while done.len() < count {
        match link.events.recv().await {
            Some(StoreEvent::Done(_, what)) => done.push(what),
            other => panic!("not done: {other:?}"),
        }
    }
    done
}

fn sequenced(number: u64) -> Intent {
    Intent {
        registration: SESSION,
        principal: PrincipalId::ANYONE,
        id: CallId::Sequenced(number),
        imprint: Imprint { interface: 1, method: 2, digest: 3, ..Imprint::default() },
    }
}

fn keyed(key: u128) -> Intent {
    let key = Key { key, issued: WallTime(10), expiry: WallTime(1_000_000) };
    Intent { id: CallId::Keyed(key), ..sequenced(0) }
}

fn finish(intent: Intent) -> Op {
    let body = format!("the reply to {:?}, long enough for a file of some pages", intent.id).repeat(4);
    Op::Finish { claim: Ticket(0), intent, keep: Some(Answer::Ok(Bytes::from(body))) }
}

fn register() -> Op {
    Op::Register { registration: SESSION, principal: PrincipalId::ANYONE }
}

/// A file with a session and some dozens of records, closed in order.
async fn filled(folder: &Path) -> PathBuf {
    let path = folder.join("records");
    let (mut link, _) = open(&path).await;
    let intents: Vec<Intent> = (1..40).map(sequenced).chain((1..20).map(keyed)).collect();
    let mut ops = vec![register()];
    ops.extend(intents.iter().map(|intent| Op::Claim(*intent)));
    ops.extend(intents.iter().map(|intent| finish(*intent)));
    ops.push(Op::Close { registration: SESSION, below: 5, ranges: vec![(9, 12)] });
    ask(&mut link, ops).await;
    link.close().await;
    path
}

/// Opens a file that was changed: what it holds, or why not. Refused, it has to be as it was.
async fn open_changed(path: &Path, content: &[u8]) -> Result<Opened, String> {
    fs::write(path, content).expect("written");
    match try_open(path).await {
        Ok((link, opened)) => {
            link.close().await;
            Ok(opened)
        }
        Err(why) => {
            assert!(
                fs::read(path).expect("still there") == content,
                "a file that is refused is left as it was: {why}"
            );
            assert!(why.contains(&path.display().to_string()), "names the file: {why}");
            Err(why)
        }
    }
}

/// Where redb's part of a file begins: behind preface and log, whose length the preface says.
fn tables_at(content: &[u8]) -> usize {
    u32::from_le_bytes(content[10..14].try_into().expect("four")) as usize
}

/// But for what every opening counts.
fn same(opened: &Opened, original: &Opened) -> bool {
    Opened { ordinal: 0, ..opened.clone() } == Opened { ordinal: 0, ..original.clone() }
}

#[tokio::test]
async fn what_was_stored_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = filled(folder.path()).await;
    let (link, opened) = open(&path).await;
    assert_eq!(opened.records.len(), 39 - 8 + 19);
    assert_eq!((opened.sessions[0].below, &opened.sessions[0].ranges[..]), (5, &[(9, 12)][..]));
    assert_eq!(opened.ordinal, 2);
    link.close().await;
    let (_link, again) = open(&path).await;
    assert!(same(&again, &opened) && again.ordinal == 3, "the same store, its third incarnation");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "replies are nobody else's business");
}

#[tokio::test]
async fn another_store_has_another_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_a, first) = open(&folder.path().join("a")).await;
    let (_b, second) = open(&folder.path().join("b")).await;
    assert_ne!((first.store, first.generation), (second.store, second.generation));
    let leftovers = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(leftovers, 2, "no half-made file is left");
}

#[tokio::test]
async fn operations_for_stores_with_many_owners_are_not_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut link, _) = open(&folder.path().join("records")).await;
    let resume = Op::Resume { registration: SESSION, principal: PrincipalId::ANYONE };
    let done = ask(&mut link, vec![resume, Op::Settle(sequenced(1)), Op::Sweep]).await;
    assert!(done.iter().all(|done| matches!(done, Done::NotDone(_))), "{done:?}");
}

#[tokio::test]
async fn a_second_owner_is_turned_away_until_the_first_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("records");
    let (link, _) = open(&path).await;
    let why = try_open(&path).await.expect_err("it has an owner");
    assert!(why.contains("another server has it open") && why.contains("records"), "{why}");
    link.close().await;
    open(&path).await;
}

#[tokio::test]
async fn places_where_no_file_can_be_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("no such folder/records");
    let why = try_open(&nowhere).await.expect_err("no folder");
    assert!(why.contains("no such folder") && why.contains("its folder has to exist"), "{why}");
    assert!(!folder.path().join("no such folder").exists(), "no folder is made");
    try_open(folder.path()).await.expect_err("a folder is not a file");

    let path = filled(folder.path()).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("its owner may");
    // Root reads everything.
    if fs::read(&path).is_err() {
        let why = try_open(&path).await.expect_err("not readable");
        assert!(why.contains("have to be readable and writable"), "{why}");
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("records");
    let mut zeros = vec![0; 100_000];
    for content in [b"".to_vec(), b"x".to_vec(), b"# My notes\n".repeat(1000), zeros.clone()] {
        let why = open_changed(&path, &content).await.expect_err("not a store");
        assert!(why.contains("left as it is"), "{why}");
    }
    zeros[0] = 1;
    open_changed(&path, &zeros).await.expect_err("not a store");

    // A file of redb, with the tables of another programme.
    fs::remove_file(&path).expect("removed");
    let database = redb::Database::create(&path).expect("made");
    let transaction = database.begin_write().expect("begun");
    let table = redb::TableDefinition::<u64, u64>::new("somebody's");
    transaction.open_table(table).expect("opened").insert(1, 2).expect("inserted");
    transaction.commit().expect("committed");
    drop(database);
    let content = fs::read(&path).expect("read");
    let why = open_changed(&path, &content).await.expect_err("not a store");
    assert!(why.contains("no head of a store") && why.contains("left as it is"), "{why}");
}

#[tokio::test]
async fn a_file_of_another_version_asks_for_its_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = filled(folder.path()).await;
    let mut content = fs::read(&path).expect("read");
    content[8..10].copy_from_slice(&3u16.to_le_bytes());
    let checksum = xxhash_rust::xxh3::xxh3_64(&content[..30]);
    content[30..38].copy_from_slice(&checksum.to_le_bytes());
    let why = open_changed(&path, &content).await.expect_err("of the future");
    assert!(why.contains("version 3") && why.contains("with the version of selfsame that wrote it"), "{why}");
}

#[tokio::test]
async fn a_truncated_file_is_refused_or_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = filled(folder.path()).await;
    let whole = fs::read(&path).expect("read");
    let original = open_changed(&path, &whole).await.expect("it is whole");
    let mut lengths = vec![0, 1, 9, 63, 64, 319, 320, 4095, 4096, 4097, whole.len() - 1];
    lengths.extend((1..24).map(|part| whole.len() * part / 24));
    let tables = tables_at(&whole);
    lengths.extend([tables - 1, tables, tables + 1, tables + 319, tables + 4096]);
    for length in lengths {
        if let Ok(opened) = open_changed(&path, &whole[..length]).await {
            assert!(same(&opened, &original), "cut at {length}: another content");
        }
    }
}

/// At bits of every field of the preface and of redb's head, and at some hundred places of the rest.
#[tokio::test]
async fn flipped_bits_are_refused_or_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = filled(folder.path()).await;
    let whole = fs::read(&path).expect("read");
    let original = open_changed(&path, &whole).await.expect("it is whole");
    let used = whole.iter().rposition(|byte| *byte != 0).expect("not empty");
    let tables = tables_at(&whole);
    let in_head = (0..40).chain(tables..tables + 320).map(|byte| (byte, byte % 8));
    // Of the log nothing is needed any more.
    let in_log = (512..tables).step_by(tables / 10).map(|byte| (byte, 0));
    let rest = tables + 320..used;
    let in_rest = rest.clone().step_by(rest.len() / 150).flat_map(|byte| [(byte, 0), (byte + 1, 7)]);
    let mut refused = 0;
    for (byte, bit) in in_head.chain(in_log).chain(in_rest) {
        let mut content = whole.clone();
        content[byte] ^= 1 << bit;
        match open_changed(&path, &content).await {
            Ok(opened) => assert!(same(&opened, &original), "bit {bit} of byte {byte}: another content"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "{refused} were noticed");
}

/// As after `kill -9`: nothing has been committed to the tables since the opening, the log has all.
async fn killed(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("killed");
    let (mut link, _) = open(&path).await;
    ask(&mut link, vec![register()]).await;
    for number in 1..=4 {
        ask(&mut link, vec![Op::Claim(sequenced(number))]).await;
        ask(&mut link, vec![finish(sequenced(number))]).await;
    }
    let content = fs::read(&path).expect("read");
    link.close().await;
    (path, content)
}

/// Where entries of the log begin, and how long they are.
fn entries(content: &[u8]) -> Vec<(usize, usize)> {
    let mut at = 512;
    let mut entries = Vec::new();
    loop {
        let length = u32::from_le_bytes(content[at + 16..at + 20].try_into().expect("four")) as usize;
        if length == 0 {
            return entries;
        }
        entries.push((at, 20 + length));
        at += (20 + length).next_multiple_of(512);
    }
}

#[tokio::test]
async fn what_only_the_log_has_is_there_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, content) = killed(folder.path()).await;
    assert_eq!(entries(&content).len(), 9, "a batch each");
    let opened = open_changed(&path, &content).await.expect("opens");
    let ended = opened.records.iter().filter(|(_, answer)| matches!(answer, Answer::Ok(_))).count();
    assert_eq!((ended, opened.ordinal), (4, 2));
    let (_link, again) = open(&path).await;
    assert!(same(&again, &opened), "entries of an earlier life are not brought in again");
}

/// An entry with later ones behind it was synced before those were written.
#[tokio::test]
async fn a_bit_flipped_in_the_log_is_refused_but_in_the_last_entry_is_taken_for_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, content) = killed(folder.path()).await;
    let whole = open_changed(&path, &content).await.expect("opens");
    let entries = entries(&content);
    let (last, earlier) = entries.split_last().expect("some");
    for (at, length) in earlier {
        for byte in (*at..at + length).step_by(29) {
            let mut content = content.clone();
            content[byte] ^= 1 << (byte % 8);
            let why = open_changed(&path, &content).await.expect_err("it was told durable");
            assert!(why.contains("of the log is damaged") && why.contains("left as it is"), "{why}");
        }
    }
    for byte in (last.0..last.0 + last.1).step_by(29) {
        let mut content = content.clone();
        content[byte] ^= 1 << (byte % 8);
        let opened = open_changed(&path, &content).await.expect("as after a torn write");
        let unknown = opened.records.iter().filter(|(_, answer)| !matches!(answer, Answer::Ok(_))).count();
        assert_eq!((opened.records.len(), unknown), (whole.records.len(), 1), "the last completion");
    }
}

/// The limit on the size of files stands in for a disk that is full: the child lowers its own, and the write that crosses it fails.
#[tokio::test]
async fn a_full_disk_stops_the_store_and_what_was_told_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("records");
    let limit = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact fill_the_disk --nocapture";
    let child = std::process::Command::new("sh")
        .args(["-c", limit])
        .arg(std::env::current_exe().expect("this test"))
        .env("SELFSAME_FILL", &path)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
    let told: usize = text
        .lines()
        .find_map(|line| line.split("stopped after ").nth(1))
        .and_then(|count| count.parse().ok())
        .expect("the child says how far it came");
    let (_link, opened) = open(&path).await;
    let ended = opened.records.iter().filter(|(_, answer)| matches!(answer, Answer::Ok(_))).count();
    assert!(told > 10 && ended >= told, "{told} were told stored, {ended} are there");
}

/// The child of the test above.
#[tokio::test]
async fn fill_the_disk() {
    let Some(path) = std::env::var_os("SELFSAME_FILL") else { return };
    let (mut link, _) = open(Path::new(&path)).await;
    let reply = Bytes::from(vec![7; 20_000]);
    let mut told = 0;
    link.ops.send((Ticket(0), register())).expect("the store listens");
    for number in 1.. {
        let (intent, keep) = (sequenced(number), Some(Answer::Ok(reply.clone())));
        let _ = link.ops.send((Ticket(1), Op::Claim(intent)));
        let _ = link.ops.send((Ticket(2), Op::Finish { claim: Ticket(1), intent, keep }));
        let stopped = loop {
            match link.events.recv().await {
                Some(StoreEvent::Done(Ticket(2), Done::Stored)) => break None,
                Some(StoreEvent::Done(..)) => {}
                Some(StoreEvent::Stopped(why)) => break Some(why),
                other => panic!("neither done nor stopped: {other:?}"),
            }
        };
        match stopped {
            None => told += 1,
            Some(why) => {
                assert!(why.contains("os error 27"), "says why: {why}");
                break;
            }
        }
    }
    // The file is let go of when its server is gone.
    let selfsame::store::Link { ops, mut events } = link;
    drop(ops);
    assert!(events.recv().await.is_none(), "nothing comes after it");
    println!("stopped after {told}");
}
