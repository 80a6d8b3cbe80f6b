//! AWS Signature Version 4.
//!
//! Invariant: the same as AWS's published examples; what is signed is what is sent.

use super::super::component::hex;
use hmac::{Hmac, Mac};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use sha2::{Digest, Sha256};

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// The headers that signing sets.
pub(super) const HEADERS: [HeaderName; 4] = [AUTHORIZATION, DATE, TOKEN, CONTENT];

/// Whose signature, and for what.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) session_token: Option<String>,
    pub(super) region: String,
    pub(super) service: String,
}

impl Signer {
    /// Signs a request as it is sent now, and returns the signature.
    ///
    /// # Errors
    ///
    /// A key cannot stand in a header.
    pub(super) fn sign(&self, request: &mut reqwest::Request, body: &[u8]) -> Result<String, String> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let (method, url) = (request.method().as_str().to_owned(), request.url().clone());
        self.sign_at(&now, &method, &url, request.headers_mut(), body)
    }

    fn sign_at(
        &self,
        now: &str,
        method: &str,
        url: &Url,
        headers: &mut HeaderMap,
        body: &[u8],
    ) -> Result<String, String> {
        let digest = hex(&Sha256::digest(body));
        headers.insert(DATE, value(now)?);
        if let Some(token) = &self.session_token {
            headers.insert(TOKEN, secret(token)?);
        }
        let mut path = encode(url.path().as_bytes(), "/");
        if self.service == "s3" {
            path = encode(&decode(url.path()), "/");
            headers.insert(CONTENT, value(&digest)?);
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let mut signed = vec![(HOST.as_str(), host)];
        for name in headers.keys() {
            if *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-") {
                let values = headers.get_all(name).iter();
                let values = values.map(|value| trimmed(&String::from_utf8_lossy(value.as_bytes())));
                signed.push((name.as_str(), values.collect::<Vec<_>>().join(",")));
            }
        }
        let request =
            Canonical { method, path: &path, query: &query(url.query()), headers: signed, digest: &digest };
        let (authorization, signature) = self.authorization(now, request);
        headers.insert(AUTHORIZATION, secret(&authorization)?);
        Ok(signature)
    }

    /// The header, and the signature in it.
    fn authorization(&self, now: &str, mut request: Canonical<'_>) -> (String, String) {
        request.headers.sort();
        let names = request.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = request.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let Canonical { method, path, query, digest, .. } = request;
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}");
        let day = now.get(..8).unwrap_or(now);
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [day, &self.region, &self.service, "aws4_request"] {
            key = hmac_sha256(&key, part.as_bytes());
        }
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        let access_key = &self.access_key;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        (authorization, signature)
    }
}

/// A request in the form that is signed, but for the order of its headers.
struct Canonical<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: Vec<(&'a str, String)>,
    digest: &'a str,
}

pub(super) fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    mac::<Hmac<Sha256>>(key, text)
}

/// Any of the family; a key may have any length.
pub(super) fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
    match <M as Mac>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(text).finalize().into_bytes().to_vec(),
        Err(_) => Vec::new(),
    }
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| "a credential of grant.inject cannot stand in a header".to_owned())
}

/// A header's value that no `Debug` shows.
pub(super) fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Without white space around it, and with one space for several.
fn trimmed(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Everything but unreserved letters and those of `kept` in percent.
fn encode(text: &[u8], kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.iter().copied() {
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || "-._~".contains(letter) || kept.contains(letter) {
            encoded.push(letter);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What stands in percent, as bytes, which need not be text.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    loop {
        rest = match rest {
            [] => return decoded,
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                decoded.push(digit(*high) << 4 | digit(*low));
                after
            }
            [byte, after @ ..] => {
                decoded.push(*byte);
                after
            }
        };
    }
}

/// The value of a hexadecimal digit.
pub(super) fn digit(letter: u8) -> u8 {
    match letter {
        b'0'..=b'9' => letter - b'0',
        _ => (letter | 0x20).wrapping_sub(b'a') + 10,
    }
}

fn query(query: Option<&str>) -> String {
    let mut pairs: Vec<_> = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encode(&decode(name), ""), encode(&decode(value), ""))
        })
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::{Canonical, HOST, Signer, decode, encode, query, trimmed};
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use sha2::{Digest, Sha256};

    /// Of AWS's test suite for Signature Version 4.
    fn suite() -> Signer {
        Signer {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
        }
    }

    /// Of the documentation of S3, "Signature Calculations for the Authorization Header".
    fn s3() -> Signer {
        Signer {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            service: "s3".to_owned(),
            ..suite()
        }
    }

    /// The test suite by case: method, path, query, further headers, body and signature.
    #[test]
    fn the_published_test_suite() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let unreserved = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        type Case<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Case<'_>; 10] = [
            (
                "get-vanilla",
                "GET",
                "/",
                "",
                &[],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                "/",
                "",
                &[],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/",
                "Param2=value2&Param1=value1",
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-utf8",
                "GET",
                "/ሴ",
                "",
                &[],
                "",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "get-vanilla-utf8-query",
                "GET",
                "/",
                "ሴ=bar",
                &[],
                "",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                "",
                &[form],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "get-header-key-duplicate",
                "GET",
                "/",
                "",
                &[("my-header1", "value2,value2,value1")],
                "",
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ),
            (
                "get-header-value-trim",
                "GET",
                "/",
                "",
                &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "get-unreserved",
                "GET",
                unreserved,
                "",
                &[],
                "",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "get-space",
                "GET",
                "/example space/",
                "",
                &[],
                "",
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
        ];
        for (name, method, path, asked, headers, body, signature) in cases {
            let now = "20150830T123600Z";
            let mut signed =
                vec![(HOST.as_str(), "example.amazonaws.com".to_owned()), ("x-amz-date", now.to_owned())];
            signed.extend(headers.iter().map(|(name, value)| (*name, trimmed(value))));
            let request = Canonical {
                method,
                path: &encode(path.as_bytes(), "/"),
                query: &query(Some(asked)),
                headers: signed,
                digest: &super::hex(&Sha256::digest(body)),
            };
            let (authorization, _) = suite().authorization(now, request);
            assert!(authorization.ends_with(&format!(", Signature={signature}")), "{name}: {authorization}");
            assert!(authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
            ));
        }
    }

    /// A whole request, signed as it is sent.
    fn signature(
        signer: &Signer,
        now: &str,
        method: &str,
        url: &str,
        sent: &[(&str, &str)],
        body: &str,
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let url = url.parse().unwrap();
        let signature = signer.sign_at(now, method, &url, &mut headers, body.as_bytes()).unwrap();
        let authorization = headers.remove(AUTHORIZATION).unwrap();
        assert!(authorization.is_sensitive());
        assert!(authorization.to_str().unwrap().ends_with(&format!("Signature={signature}")));
        signature
    }

    #[test]
    fn whole_requests() {
        let vanilla =
            signature(&suite(), "20150830T123600Z", "GET", "https://example.amazonaws.com/", &[], "");
        assert_eq!(vanilla, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        let s3 = |url: &str| signature(&s3(), "20130524T000000Z", "GET", url, &[], "");
        let bucket = "https://examplebucket.s3.amazonaws.com";
        assert_eq!(
            s3(&format!("{bucket}/?lifecycle")),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            s3(&format!("{bucket}/?max-keys=2&prefix=J")),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn what_is_encoded_stays_the_same_bytes() {
        assert_eq!(decode("a%20%E1%88%b4%ff%+1%2"), b"a \xe1\x88\xb4\xff%+1%2");
        assert_eq!(query(Some("k=%ff&k=%+1")), "k=%25%2B1&k=%FF");
    }

    #[test]
    fn headers_of_one_name_are_signed_as_one() {
        let signed = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-amz-meta-a", HeaderValue::from_str(value).unwrap());
            }
            let url = "https://example.amazonaws.com/".parse().unwrap();
            suite().sign_at("20150830T123600Z", "GET", &url, &mut headers, b"").unwrap();
            headers[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(signed(&["b", " a  c"]), signed(&["b,a c"]));
        assert!(signed(&["b", "a"]).contains("SignedHeaders=host;x-amz-date;x-amz-meta-a,"));
    }

    #[test]
    fn a_session_token_is_sent_and_signed() {
        let with = Signer { session_token: Some("SESSION".to_owned()), ..suite() };
        let mut headers = HeaderMap::new();
        let url = "https://example.amazonaws.com:8443/a%20b".parse().unwrap();
        with.sign_at("20150830T123600Z", "POST", &url, &mut headers, b"body").unwrap();
        assert_eq!(headers["x-amz-security-token"], "SESSION");
        let authorization = headers[AUTHORIZATION].to_str().unwrap();
        assert!(
            authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"),
            "{authorization}"
        );
        assert!(!headers.contains_key("x-amz-content-sha256"));
    }
}
