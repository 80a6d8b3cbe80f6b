//! A server on loopback that answers as no server should, byte by byte: for plugins that speak HTTP.
//!
//! Invariant: every answer ends with its connection, which the host's client closes, and each connection has a thread.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

/// One for all cases, and another one, which nobody is granted.
static SERVER: LazyLock<u16> = LazyLock::new(start);
static PRIVATE: LazyLock<u16> = LazyLock::new(start);

/// Where it answers.
pub fn url(path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", *SERVER)
}

/// Its port.
pub fn port() -> u16 {
    *SERVER
}

fn start() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    port
}

/// Answers the requests of one connection. An error is its end.
fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some((path, headers))) = request(&mut reader) {
        if answer(&path, &headers, &mut reader, stream).is_err() {
            return;
        }
    }
}

/// The path of the next request, and its headers; `None` when there is none.
fn request(reader: &mut impl BufRead) -> Result<Option<(String, String)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            return Ok(Some((path, headers)));
        }
        headers += &line;
    }
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name));
    headers.lines().find_map(named).map(|(_, value)| value)
}

/// Ends the connection.
fn ended() -> Result<()> {
    Err(std::io::ErrorKind::ConnectionAborted.into())
}

fn whole(mut out: &TcpStream, status: &str, more: &str, body: &str) -> Result<()> {
    write!(out, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len())
}

fn chunk(mut out: &TcpStream, bytes: &[u8]) -> Result<()> {
    write!(out, "{:x}\r\n", bytes.len())?;
    out.write_all(bytes)?;
    out.write_all(b"\r\n")
}

/// Writes `part` again and again, until nobody reads it.
fn for_ever(mut out: &TcpStream, part: &[u8], pause: Duration) -> Result<()> {
    loop {
        out.write_all(part)?;
        std::thread::sleep(pause);
    }
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const SLOW: Duration = Duration::from_millis(50);

fn answer(path: &str, headers: &str, reader: &mut impl Read, mut out: &TcpStream) -> Result<()> {
    let credential = header(headers, "authorization").unwrap_or("none");
    match path {
        "/endless-body" => {
            out.write_all(CHUNKED)?;
            for_ever(out, &[b"2000\r\n", &[b'y'; 0x2000][..], b"\r\n"].concat(), Duration::ZERO)
        }
        "/endless-headers" => {
            out.write_all(b"HTTP/1.1 200 OK\r\n")?;
            for_ever(out, b"x-bomb: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Duration::ZERO)
        }
        "/endless-line" => for_ever(out, &[b'H'; 4 << 10], Duration::ZERO),
        "/endless-hints" => {
            for_ever(out, b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", Duration::from_millis(1))
        }
        "/endless-trailers" => {
            out.write_all(CHUNKED)?;
            out.write_all(b"0\r\n")?;
            for_ever(out, b"x-bomb: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", Duration::ZERO)
        }
        "/many-headers" => whole(out, "200 OK", &"x-bomb: a\r\n".repeat(90), &"b".repeat(10)),
        "/huge-header" => whole(out, "200 OK", &format!("x-bomb: {}\r\n", "a".repeat(100 << 10)), ""),
        "/slow-headers" => {
            out.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ")?;
            for_ever(out, b"a", SLOW)
        }
        "/slow-body" => {
            out.write_all(CHUNKED)?;
            for_ever(out, b"1\r\nz\r\n", SLOW)
        }
        "/never" => std::io::copy(reader, &mut std::io::sink()).and(ended()),
        "/garbage" => out.write_all(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n\r\n").and(ended()),
        "/closes" => ended(),
        "/too-short" => out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort").and(ended()),
        "/two-lengths" => out
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 9\r\n\r\ntwolengths")
            .and(ended()),
        "/huge-chunk" => {
            out.write_all(CHUNKED)?;
            out.write_all(b"ffffffffffffffffff\r\nx").and(ended())
        }
        "/negative-length" => out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").and(ended()),
        "/switches" => out
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: evil\r\nconnection: upgrade\r\n\r\nhello",
            )
            .and(ended()),
        "/redirect" => redirect(out, &format!("http://127.0.0.1:{}/ok", *PRIVATE)),
        "/redirect-to-metadata" => redirect(out, "http://169.254.169.254/latest/meta-data/"),
        "/redirect-to-a-file" => redirect(out, "file:///etc/passwd"),
        "/redirect-to-itself" => redirect(out, &url("/redirect-to-itself")),
        "/redirect-with-a-user" => {
            redirect(out, &format!("http://127.0.0.1:{}@127.0.0.1:{}/ok", *SERVER, *PRIVATE))
        }
        "/echo" => whole(out, "200 OK", "", &format!("you sent {credential}.")),
        "/echo-in-a-header" => whole(out, "200 OK", &format!("x-echo: {credential}\r\n"), "reached"),
        "/echo-in-bits" => {
            out.write_all(CHUNKED)?;
            for byte in credential.as_bytes() {
                chunk(out, &[*byte])?;
                out.flush()?;
            }
            out.write_all(b"0\r\n\r\n")
        }
        "/echo-in-a-reason" => {
            write!(out, "HTTP/1.1 500 {credential}\r\ncontent-length: 0\r\n\r\n")
        }
        "/echo-in-a-redirect" => redirect(out, &url(&format!("/?{credential}").replace(' ', "+"))),
        "/echo-in-a-trailer" => {
            out.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n")?;
            chunk(out, b"reached")?;
            write!(out, "0\r\nx-echo: {credential}\r\n\r\n")
        }
        _ => whole(out, "200 OK", "", "reached"),
    }
}

fn redirect(out: &TcpStream, there: &str) -> Result<()> {
    whole(out, "302 Found", &format!("location: {there}\r\n"), "")
}
