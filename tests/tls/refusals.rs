//! Who does not prove himself is refused, whichever side it is; and an honest client that is there too does not notice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rcgen::{CertificateParams, SanType, date_time_ymd};
use selfsame::io::{
    Acceptor, CloseReason, Connector, Dealer, DealerOptions, DialError, Endpoint, IoThread, RouterOptions,
    TlsError,
};
use selfsame::protocol::zmtp::Refused;
use selfsame::{ClientTls, GateCounters};

use super::certificates::{Authority, Folder, TlsStream, client, server, stream};
use super::stranger::{Echo, PATIENCE, Stranger, blocking, frame, greeting};

fn options(folder: &Folder) -> RouterOptions {
    let tls = Some(Acceptor::open(folder.mutual()).unwrap());
    RouterOptions { tls, ..RouterOptions::router() }
}

async fn start(options: RouterOptions) -> Echo {
    Echo::start_at("tls://127.0.0.1:0".parse().unwrap(), options).await
}

/// A peer that speaks ZMTP by hand, in good TLS.
fn honest(folder: &Folder, echo: &Echo) -> Stranger<TlsStream> {
    folder.client("ann");
    let over = TcpStream::connect(echo.address.strip_prefix("tls://").unwrap()).unwrap();
    over.set_read_timeout(Some(PATIENCE)).unwrap();
    Stranger(stream(folder.folder.path(), over))
}

/// An honest peer, then a hostile one over plain TCP, which has to see its end; and the honest one still.
async fn attack(
    options: RouterOptions,
    folder: &Folder,
    hostile: impl FnOnce(&mut Stranger) + Send + 'static,
) -> GateCounters {
    let echo = start(options).await;
    let mut honest = honest(folder, &echo);
    let address = echo.address;
    blocking(move || {
        honest.shake("DEALER", b"");
        honest.echoes(b"before");
        let mut stranger = Stranger::connect(address);
        hostile(&mut stranger);
        stranger.hears_the_end();
        honest.echoes(b"after");
    })
    .await;
    echo.until(|counters| counters.refused + counters.handshake_timeouts == 1).await
}

async fn dial(endpoint: Endpoint, tls: Option<ClientTls>) -> Result<(), DialError> {
    let tls = tls.map(|tls| Connector::open(tls).unwrap());
    let options = DealerOptions { tls, ..DealerOptions::dealer() };
    let dialled = IoThread::shared().unwrap().run(move || async move {
        let mut dealer = Dealer::dial(&endpoint, options).await?;
        // In TLS 1.3 a client is done before it is judged, but no READY comes before the judgement.
        dealer.send(vec![bytes::Bytes::from_static(b"hello")]).unwrap();
        dealer.close().await;
        Ok(())
    });
    tokio::time::timeout(PATIENCE, dialled).await.expect("it hangs").unwrap()
}

/// What a client is told that an echo with client certificates turns away; the echo counts it as such.
async fn turned_away(folder: &Folder, tls: ClientTls) -> String {
    let echo = start(options(folder)).await;
    let endpoint = echo.address.parse::<Endpoint>().unwrap();
    let error = dial(endpoint.clone(), Some(tls)).await.expect_err("it was let in");
    let counters = echo.until(|counters| counters.refused == 1).await;
    assert_eq!((counters.insecure, counters.opened), (1, 0), "{error}");
    dial(endpoint, Some(folder.client("ann"))).await.unwrap();
    let DialError::Tls(error) = error else { panic!("{error}") };
    error.to_string()
}

/// Shows what `authority` makes of `params`.
fn shows(folder: &Folder, authority: &Authority, params: CertificateParams) -> ClientTls {
    folder.put("hostile", authority.issue(params));
    folder.nobody().identity(folder.path("hostile.pem"), folder.path("hostile.key"))
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    params
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let folder = Folder::new();
    let why = turned_away(&folder, folder.nobody()).await;
    assert!(why.contains("CertificateRequired"), "{why}");
}

#[tokio::test]
async fn a_client_whose_certificate_has_expired() {
    let folder = Folder::new();
    let hostile = shows(&folder, &folder.authority, expired(client("ann", vec![])));
    let why = turned_away(&folder, hostile).await;
    assert!(why.contains("CertificateExpired"), "{why}");
}

#[tokio::test]
async fn a_client_with_a_certificate_of_somebody_else() {
    let folder = Folder::new();
    let hostile = shows(&folder, &Authority::new(), client("ann", vec![]));
    let why = turned_away(&folder, hostile).await;
    // Both authorities have one name, so that it is the signature that does not hold.
    assert!(
        why.contains("DecryptError") || why.contains("UnknownCA") || why.contains("BadCertificate"),
        "{why}"
    );
}

#[tokio::test]
async fn a_client_that_shows_a_servers_certificate() {
    let folder = Folder::new();
    let hostile = shows(&folder, &folder.authority, server());
    turned_away(&folder, hostile).await;
}

#[tokio::test]
async fn a_client_whose_certificate_names_nobody() {
    let folder = Folder::new();
    let long = SanType::URI("x".repeat(256).try_into().unwrap());
    for params in [client("", vec![]), client("ann\nbob", vec![]), client("ann", vec![long])] {
        turned_away(&folder, shows(&folder, &folder.authority, params)).await;
    }
}

#[tokio::test]
async fn a_server_whose_certificate_is_for_another_name() {
    let folder = Folder::new();
    let echo = start(options(&folder)).await;
    let endpoint = echo.address.parse::<Endpoint>().unwrap();
    let error =
        dial(endpoint.clone(), Some(folder.client("ann").server_name("account.example"))).await.unwrap_err();
    assert!(
        error.to_string().contains("not valid for name") && error.to_string().contains("account.example"),
        "{error}"
    );
    assert!(matches!(error, DialError::Tls(TlsError::Refused(_))), "{error}");
    dial(endpoint, Some(folder.client("ann").server_name("localhost"))).await.unwrap();
}

#[tokio::test]
async fn a_server_that_has_expired_or_is_somebody_elses() {
    let folder = Folder::new();
    let foreign = Authority::new().issue(server());
    for (pair, why) in [(folder.authority.issue(expired(server())), "expired"), (foreign, "certificate")] {
        folder.put("server", pair);
        let echo = start(options(&folder)).await;
        let error =
            dial(echo.address.parse::<Endpoint>().unwrap(), Some(folder.client("ann"))).await.unwrap_err();
        assert!(matches!(error, DialError::Tls(TlsError::Refused(_))), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_plain_client_at_a_tls_endpoint_is_told() {
    let folder = Folder::new();
    let echo = start(options(&folder)).await;
    let error = dial(echo.address.replace("tls:", "tcp:").parse().unwrap(), None).await.unwrap_err();
    assert!(matches!(error, DialError::Refused(Refused::Tls)), "{error}");
    assert_eq!(echo.until(|counters| counters.refused == 1).await.insecure, 1);
}

#[tokio::test]
async fn a_tls_client_at_a_plain_endpoint_is_told() {
    let folder = Folder::new();
    let echo = Echo::start(RouterOptions::router()).await;
    let error = dial(echo.address.replace("tcp:", "tls:").parse().unwrap(), Some(folder.client("ann")))
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Tls(TlsError::NotTls)), "{error}");
    assert!(error.to_string().contains("is it a tcp:// endpoint?"), "{error}");
    assert_eq!(echo.until(|counters| counters.refused == 1).await.insecure, 0);
}

#[tokio::test]
async fn garbage_instead_of_tls() {
    let folder = Folder::new();
    let garbage = |stranger: &mut Stranger| stranger.say(&[b'x'; 4096]);
    assert_eq!(attack(options(&folder), &folder, garbage).await.insecure, 1);
}

#[tokio::test]
async fn a_client_that_knows_no_newer_tls_than_1_2() {
    let folder = Folder::new();
    let counters = attack(options(&folder), &folder, |stranger| {
        let hello = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0xc0, 0x2b], &[1, 0]].concat();
        let hello = [&[1, 0, 0, hello.len() as u8], &hello[..]].concat();
        stranger.say(&[&[22, 3, 1, 0, hello.len() as u8], &hello[..]].concat());
        let mut alert = [0; 7];
        stranger.0.read_exact(&mut alert).unwrap();
        assert_eq!((alert[0], alert[5]), (21, 2), "no fatal alert");
    });
    assert_eq!(counters.await.insecure, 1);
}

#[tokio::test]
async fn silence_and_half_a_handshake_are_ended_by_the_time_out() {
    let folder = Folder::new();
    for said in [&[][..], &[22, 3, 1, 2, 0, 1]] {
        let options = RouterOptions { handshake_timeout: Duration::from_millis(300), ..options(&folder) };
        let counters = attack(options, &folder, move |stranger| stranger.say(said)).await;
        assert_eq!(counters.handshake_timeouts, 1);
    }
}

#[tokio::test]
async fn a_message_that_is_cut_short_is_no_orderly_end() {
    let folder = Folder::new();
    let mut echo = start(options(&folder)).await;
    let mut peer = honest(&folder, &echo);
    // The one ends TLS, as an honest peer does; of the other only TCP ends, as anyone on its way could make it.
    blocking(move || {
        peer.shake("DEALER", b"");
        peer.echoes(b"whole");
        peer.say(&frame(0, &[0; 1000])[..500]);
        peer.0.sock.shutdown(Shutdown::Write).unwrap();
        peer.hears_the_end();
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Broken(std::io::ErrorKind::UnexpectedEof));
    let mut peer = honest(&folder, &echo);
    blocking(move || {
        peer.shake("DEALER", b"");
        peer.echoes(b"whole");
        peer.0.conn.send_close_notify();
        peer.0.flush().unwrap();
    })
    .await;
    assert_eq!(echo.next_closed().await, CloseReason::Peer);
}

#[tokio::test]
async fn a_server_that_ends_within_the_handshake_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::Tls(listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 16]);
    });
    let folder = Folder::new();
    let error = dial(endpoint, Some(folder.client("ann"))).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(TlsError::Io(_))), "{error}");
}

#[tokio::test]
async fn a_greeting_is_no_tls_even_byte_by_byte() {
    let folder = Folder::new();
    let counters = attack(options(&folder), &folder, |stranger| {
        for byte in greeting() {
            let _ = stranger.0.write_all(&[byte]);
        }
    });
    assert_eq!(counters.await.insecure, 1);
}
