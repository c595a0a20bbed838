use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Request, Trouble, Web, WebSettings};
use crate::web::{Entry, Fence, Private};

/// A server that gives each connection this answer and counts them.
async fn server(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|taken| taken > 0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, count)
}

fn web(private: Private, redirects: u32, names: &'static [(&'static str, &'static [&'static str])]) -> Web {
    let settings = WebSettings {
        fence: Fence {
            allow: vec![Entry::Matching(Arc::new(|_: &str| true))],
            private,
        },
        redirects,
        ca_file: None,
        idle_connections: 4,
    };
    Web::knowing(
        settings,
        Arc::new(move |asked: &str| {
            let known = names.iter().find(|(name, _)| *name == asked);
            let (_, addresses) = known.ok_or_else(|| io::Error::other("nobody of that name"))?;
            Ok(addresses
                .iter()
                .map(|address| address.parse::<IpAddr>().unwrap())
                .collect())
        }),
    )
}

fn get(url: &str) -> Request {
    Request {
        method: Method::GET,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Vec::new(),
        timeout: Some(Duration::from_secs(20)),
        connect_timeout: None,
        redirects: None,
        keep: 5,
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall fine";

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused_before_anybody_is_connected_to() {
    let (address, count) = server(FINE).await;
    let names: &[(&str, &[&str])] = &[
        ("inside.example", &["127.0.0.1"]),
        ("both.example", &["8.8.8.8", "127.0.0.1"]),
        ("metadata.example", &["169.254.169.254"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
    ];
    let refusing = web(Private::Refuse, 0, names);
    for host in ["inside", "both", "metadata", "mapped"] {
        let result = refusing
            .send(get(&format!("http://{host}.example:{}/", address.port())))
            .await;
        let Err(Trouble::Refused(reason)) = result else {
            panic!("{host}: {result:?}")
        };
        assert!(reason.contains("private address"), "{reason}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    // The same, where it is allowed.
    let url = format!("http://inside.example:{}/", address.port());
    let answer = web(Private::Allow, 0, names).send(get(&url)).await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice(), answer.truncated),
        (StatusCode::OK, &b"all f"[..], true)
    );
    let some = Private::Only(vec!["127.0.0.0/8".parse().unwrap()]);
    assert!(web(some, 0, names).send(get(&url)).await.is_ok());
    let others = Private::Only(vec!["10.0.0.0/8".parse().unwrap()]);
    assert!(matches!(
        web(others, 0, names).send(get(&url)).await,
        Err(Trouble::Refused(_))
    ));
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_worth_another_try() {
    let result = web(Private::Refuse, 0, &[]).send(get("http://nobody.example/")).await;
    let Err(Trouble::Failed(reason)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(reason, "the name nobody.example is not known: nobody of that name");
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    let (inside, count) = server(FINE).await;
    let answer: &'static str = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://inside.example:{}/\r\nContent-Length: 0\r\n\r\n",
        inside.port()
    )
    .leak();
    let (outside, _) = server(answer).await;
    // The server stands for one of the internet: it may be connected to, the other may not.
    let names: &[(&str, &[&str])] = &[("outside.example", &["127.0.0.1"]), ("inside.example", &["10.0.0.1"])];
    let only = Private::Only(vec!["127.0.0.1".parse().unwrap()]);
    let url = format!("http://outside.example:{}/", outside.port());
    let result = web(only.clone(), 3, names).send(get(&url)).await;
    assert!(
        matches!(&result, Err(Trouble::Refused(reason)) if reason.contains("10.0.0.1")),
        "{result:?}"
    );
    assert_eq!(count.load(Ordering::SeqCst), 0);
    // It is an answer where none is followed.
    let answer = web(only, 0, names).send(get(&url)).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
}

#[tokio::test]
async fn redirects_are_counted() {
    let (address, count) = server("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n").await;
    let web = web(Private::Allow, 3, &[]);
    let answer = web.send(get(&format!("http://{address}/"))).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    let fewer = Request {
        redirects: Some(1),
        ..get(&format!("http://{address}/"))
    };
    assert_eq!(web.send(fewer).await.unwrap().status, StatusCode::FOUND);
    let more = Request {
        redirects: Some(99),
        ..get(&format!("http://{address}/"))
    };
    assert_eq!(web.send(more).await.unwrap().status, StatusCode::FOUND);
    assert!(count.load(Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn connections_are_used_again() {
    let (address, count) = server(FINE).await;
    let web = web(Private::Allow, 0, &[]);
    for _ in 0..5 {
        web.send(get(&format!("http://{address}/"))).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_broken_answer_is_trouble_and_tells_no_secret() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let (address, _) = server(answer).await;
        let result = web(Private::Allow, 0, &[])
            .send(get(&format!("http://{address}/hunter2?x=hunter2")))
            .await;
        let Err(Trouble::Failed(reason)) = result else {
            panic!("{answer}: {result:?}")
        };
        assert!(
            reason.starts_with("127.0.0.1: ") && !reason.contains("hunter2"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn headers_without_end_are_no_answer() {
    let long: &'static str = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 << 20)).leak();
    let (address, _) = server(long).await;
    let result = web(Private::Allow, 0, &[])
        .send(get(&format!("http://{address}/")))
        .await;
    assert!(matches!(result, Err(Trouble::Failed(_))), "{result:?}");
}
