//! Just enough HTTP to ask a query again and again over one connection.

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Failure;
use crate::address::Address;

/// The largest answer that is taken.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A connection that is kept.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    address: Address,
    token: String,
}

/// What every answer of a query has.
#[derive(Debug, Deserialize)]
struct Answer {
    position: u64,
}

impl Http {
    pub(crate) async fn connect(address: &Address, token: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address.authority()).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), address: address.clone(), token: token.to_owned() })
    }

    /// The position that the answer to a query reflects.
    pub(crate) async fn position(&mut self, path: &str) -> Result<u64, Failure> {
        let body = self.get(path).await?;
        let answer: Answer = serde_json::from_slice(&body)?;
        Ok(answer.position)
    }

    async fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        let Self { address, token, .. } = self;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let mut length = None;
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse::<usize>().ok();
                }
                Some(_) => {}
                None if line.is_empty() => break,
                None => return Err(format!("{path} answered no HTTP: {line:?}").into()),
            }
        }
        let length = length.filter(|length| *length <= MAX_BODY_BYTES);
        let mut body = vec![0; length.ok_or_else(|| format!("{path} answered without a length"))?];
        self.stream.read_exact(&mut body).await?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err("the server has closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
