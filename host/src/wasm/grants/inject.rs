//! Credentials that the host adds to requests, and the guest never sees.
//!
//! Invariant: a value leaves the host in a request to where the operator sends it, and in nothing else: no log, no
//! report, no `Debug`.

use super::super::component::hex;
use super::super::settings::{HmacGrant, InjectGrant};
use super::echo::Guarded;
use super::rules::Target;
use super::sigv4::{self, Signer, mac, secret};
use crate::config::{Secret, Secrets};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::Hmac;
use http::header::{self, AUTHORIZATION};
use http::{HeaderName, HeaderValue};
use sha2::{Sha256, Sha512};
use std::sync::Arc;

/// A shorter value cannot be told from the words around it, in a log or an answer.
const SHORTEST: usize = 4;
/// Headers that say how a request is sent, and are the client's.
const NOT_OURS: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::ACCEPT_ENCODING,
    header::CONTENT_ENCODING,
];

/// Headers by which a request does something else than its method and address say: with a signature over them it would
/// do that in the operator's name. What ends in `-` stands for all that begin so.
const ASKING: [&str; 6] = [
    "x-amz-acl",
    "x-amz-bypass-governance-retention",
    "x-amz-copy-source",
    "x-amz-copy-source-",
    "x-amz-grant-",
    "x-amz-target",
];

fn asks(name: &str) -> bool {
    ASKING.iter().any(|known| name == *known || (known.ends_with('-') && name.starts_with(known)))
}

/// Why a plugin may not set a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// It is the one that is injected.
    Set,
    /// It would be signed.
    Signed,
}

/// A credential, ready to be added.
pub(super) struct Injection {
    to: Target,
    kind: Kind,
    headers: Vec<HeaderName>,
    /// Headers that are signed although they ask for more.
    allowed: Vec<HeaderName>,
    guarded: Vec<String>,
}

enum Kind {
    Header(HeaderName, HeaderValue),
    Aws(Signer),
    Hmac { header: HeaderName, secret: Secret, long: bool, prefix: String },
}

impl Injection {
    /// Reads one entry of `grant.inject`; `secrets` are what came through `${…}`, of which parts of a value may be.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that follow its key. None shows the value.
    pub(super) fn parse(grant: &InjectGrant, secrets: &Secrets) -> Result<Self, String> {
        let to = grant.to.strip_suffix("/*").unwrap_or(&grant.to);
        if to.contains(['*', '?', '#']) {
            return Err(format!(
                "goes to \"{}\", which is no address such as https://example.com/path",
                grant.to
            ));
        }
        let to = Target::parse(to).map_err(|cause| format!("goes to \"{}\", which {cause}", grant.to))?;
        let mut kinds = Vec::new();
        let mut guarded = Vec::new();
        match (&grant.header, &grant.value) {
            (Some(name), Some(value)) => {
                let value = value.expose();
                // The scheme before a token is no secret, and the token may come back without it.
                guarded.extend(value.split_once(' ').map(|(_, token)| token.trim().to_owned()));
                guarded.push(value.to_owned());
                kinds.push(Kind::Header(own_header(name)?, header_value(value)?));
            }
            (None, None) => {}
            _ => return Err("has one of `header` and `value`, which belong together".to_owned()),
        }
        if let Some(token) = &grant.bearer {
            guarded.push(token.expose().to_owned());
            kinds.push(Kind::Header(AUTHORIZATION, header_value(&format!("Bearer {}", token.expose()))?));
        }
        if let Some(basic) = &grant.basic {
            if basic.user.contains(':') {
                return Err("has a `basic.user` with a colon, which cannot be sent".to_owned());
            }
            let both = BASE64.encode(format!("{}:{}", basic.user, basic.password.expose()));
            guarded.extend([basic.password.expose().to_owned(), both.clone()]);
            kinds.push(Kind::Header(AUTHORIZATION, header_value(&format!("Basic {both}"))?));
        }
        if let Some(aws) = &grant.sigv4 {
            guarded.push(aws.secret_key.expose().to_owned());
            guarded.extend(aws.session_token.as_ref().map(|token| token.expose().to_owned()));
            kinds.push(Kind::Aws(Signer {
                access_key: aws.access_key.expose().to_owned(),
                secret_key: aws.secret_key.expose().to_owned(),
                session_token: aws.session_token.as_ref().map(|token| token.expose().to_owned()),
                region: aws.region.clone(),
                service: aws.service.clone(),
            }));
        }
        if let Some(hmac) = &grant.hmac {
            guarded.push(hmac.secret.expose().to_owned());
            kinds.push(signature(hmac)?);
        }
        let kind = kinds
            .pop()
            .ok_or("says nothing to add: give it header and value, bearer, basic, sigv4 or hmac")?;
        if !kinds.is_empty() {
            return Err("adds more than one kind; give each an entry of its own".to_owned());
        }
        if guarded.iter().any(|value| value.chars().count() < SHORTEST) {
            return Err(format!(
                "has a value of less than {SHORTEST} characters, too short to be kept secret"
            ));
        }
        let parts: Vec<_> =
            guarded.iter().flat_map(|value| secrets.within(value)).map(str::to_owned).collect();
        guarded.extend(parts);
        let headers = match &kind {
            Kind::Header(name, _) | Kind::Hmac { header: name, .. } => vec![name.clone()],
            Kind::Aws(_) => sigv4::HEADERS.to_vec(),
        };
        let allowed = allowed(&grant.allow, &kind)?;
        Ok(Self { to, kind, headers, allowed, guarded })
    }

    /// Whether a request there is given it.
    pub(super) fn applies(&self, target: &Target) -> bool {
        self.to.same_server(target) && target.is_below(&self.to.path)
    }

    /// Where it goes.
    pub(super) fn to(&self) -> &Target {
        &self.to
    }

    /// Why a guest may not set the header `name`, if so. Servers exist to which `_` and `-` are the same.
    pub(super) fn clash(&self, name: &HeaderName) -> Option<Clash> {
        let same = |own: &HeaderName| {
            let letters = |name: &HeaderName| name.as_str().replace('_', "-");
            letters(own) == letters(name)
        };
        if self.headers.iter().any(same) {
            return Some(Clash::Set);
        }
        let signs = matches!(self.kind, Kind::Aws(_));
        (signs && asks(name.as_str()) && !self.allowed.contains(name)).then_some(Clash::Signed)
    }

    /// What nobody may see.
    pub(super) fn secrets(&self) -> &[String] {
        &self.guarded
    }

    /// Whether it needs the whole body.
    pub(super) fn signs_body(&self) -> bool {
        !matches!(self.kind, Kind::Header(..))
    }

    /// Adds it to a request with `body`, which is empty unless it is to be signed; then it is the signature that
    /// nobody may see either: it is as good as the key for who sends the same again.
    ///
    /// # Errors
    ///
    /// It cannot stand in a header.
    pub(super) fn apply(
        &self,
        request: &mut reqwest::Request,
        body: &[u8],
    ) -> Result<Option<String>, String> {
        match &self.kind {
            Kind::Header(name, value) => {
                request.headers_mut().insert(name, value.clone());
                Ok(None)
            }
            Kind::Aws(signer) => signer.sign(request, body).map(Some),
            Kind::Hmac { header, secret: key, long, prefix } => {
                let key = key.expose().as_bytes();
                let signature =
                    if *long { mac::<Hmac<Sha512>>(key, body) } else { mac::<Hmac<Sha256>>(key, body) };
                let signature = hex(&signature);
                request.headers_mut().insert(header, secret(&format!("{prefix}{signature}"))?);
                Ok(Some(signature))
            }
        }
    }
}

/// What no answer may hold that is made where these credentials are known.
pub(super) fn guarded(injections: &[Arc<Injection>]) -> Guarded {
    Guarded::new(injections.iter().flat_map(|injection| injection.secrets()).cloned())
}

/// The headers of `allow`.
fn allowed(names: &[String], kind: &Kind) -> Result<Vec<HeaderName>, String> {
    if !names.is_empty() && !matches!(kind, Kind::Aws(_)) {
        return Err("has `allow`, which belongs to sigv4".to_owned());
    }
    let known = |name: &String| {
        HeaderName::try_from(name).ok().filter(|name| asks(name.as_str())).ok_or_else(|| {
            format!("allows \"{name}\", which is no header that needs it, such as x-amz-target")
        })
    };
    names.iter().map(known).collect()
}

fn own_header(name: &str) -> Result<HeaderName, String> {
    let name =
        HeaderName::try_from(name).map_err(|_| format!("sets the header \"{name}\", which is none"))?;
    if NOT_OURS.contains(&name) {
        return Err(format!("sets the header {name}, which is the client's own"));
    }
    Ok(name)
}

fn header_value(text: &str) -> Result<HeaderValue, String> {
    secret(text).map_err(|_| "has a value that cannot stand in a header".to_owned())
}

fn signature(hmac: &HmacGrant) -> Result<Kind, String> {
    let long = match hmac.algorithm.as_str() {
        "sha256" => false,
        "sha512" => true,
        other => return Err(format!("has the algorithm {other}, and only sha256 and sha512 are known")),
    };
    header_value(&hmac.prefix)?;
    let header = own_header(&hmac.header)?;
    Ok(Kind::Hmac { header, secret: hmac.secret.clone(), long, prefix: hmac.prefix.clone() })
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::InjectGrant;
    use super::{Clash, HeaderName, Injection, Target};
    use crate::config::Secrets;

    fn read(text: &str) -> Result<Injection, String> {
        let grant: InjectGrant = toml::from_str(text).unwrap();
        Injection::parse(&grant, &Secrets::default())
    }

    fn sent(text: &str, header: &str, body: &str) -> String {
        let mut request = reqwest::Request::new(http::Method::POST, "https://a.example/x".parse().unwrap());
        read(text).unwrap().apply(&mut request, body.as_bytes()).unwrap();
        let value = &request.headers()[header];
        assert!(value.is_sensitive(), "{text}");
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_kind_is_sent_as_servers_expect_it() {
        let to = "to = 'https://a.example'\n";
        let sent =
            |text: &str, header: &str| sent(&format!("{to}{text}"), header, "what do ya want for nothing?");
        assert_eq!(sent("header = 'X-Key'\nvalue = 'opensesame'", "x-key"), "opensesame");
        assert_eq!(sent("bearer = 'opensesame'", "authorization"), "Bearer opensesame");
        assert_eq!(
            sent("basic = { user = 'Aladdin', password = 'open sesame' }", "authorization"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        // RFC 4231, test case 2.
        assert_eq!(
            sent(
                "hmac = { header = 'x-hub-signature-256', secret = 'Jefe', prefix = 'sha256=' }",
                "x-hub-signature-256"
            ),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            sent("hmac = { header = 'x-sig', secret = 'Jefe', algorithm = 'sha512' }", "x-sig"),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
        let aws =
            "sigv4 = { access_key = 'AKID', secret_key = 'secret', region = 'eu-west-1', service = 'es' }";
        assert!(sent(aws, "authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKID/"));
    }

    #[test]
    fn it_goes_where_it_is_sent_and_nowhere_else() {
        let goes = |to: &str, address: &str| {
            let injection = read(&format!("to = '{to}'\nbearer = 'sesame'")).unwrap();
            injection.applies(&Target::parse(address).unwrap())
        };
        for to in [
            "https://a.example",
            "https://a.example/",
            "https://a.example/*",
            "https://a.example/api",
            "https://a.example/api/*",
        ] {
            assert!(goes(to, "https://a.example/api/x?y=1"), "{to}");
            assert!(!goes(to, "http://a.example/api/x"), "{to}");
            assert!(!goes(to, "https://a.example:444/api/x"), "{to}");
            assert!(!goes(to, "https://b.example/api/x"), "{to}");
        }
        assert!(!goes("https://a.example/api", "https://a.example/apis"));
        assert!(!goes("https://a.example/api", "https://a.example/"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        for (text, cause) in [
            ("", "says nothing to add"),
            ("header = 'x'", "belong together"),
            ("bearer = 'hunter2'\nheader = 'x'\nvalue = 'hunter2'", "more than one kind"),
            ("header = 'x y'\nvalue = 'hunter2'", "which is none"),
            ("header = 'Host'\nvalue = 'hunter2'", "the client's own"),
            ("header = 'x'\nvalue = \"hunter2\\n\"", "cannot stand in a header"),
            ("bearer = 'abc'", "too short"),
            ("basic = { user = 'a:b', password = 'hunter2' }", "a colon"),
            ("hmac = { header = 'x', secret = 'hunter2', algorithm = 'md5' }", "algorithm md5"),
            ("bearer = 'hunter2'\nallow = ['x-amz-target']", "belongs to sigv4"),
            (
                "sigv4 = { access_key = 'AKID', secret_key = 'hunter2', region = 'r', service = 's' }\nallow = ['x-other']",
                "allows \"x-other\"",
            ),
        ] {
            let refused = read(&format!("to = 'https://a.example'\n{text}")).err().unwrap_or_default();
            assert!(refused.contains(cause) && !refused.contains("hunter2"), "{text}: {refused}");
        }
        for (to, cause) in [
            ("https://*.example", "is no address"),
            ("a.example", "is not an address"),
            ("https://a.example/..", "a dot segment"),
        ] {
            let refused = read(&format!("to = '{to}'\nbearer = 'hunter2'")).err().unwrap();
            assert!(refused.contains(cause), "{refused}");
        }
    }

    #[test]
    fn what_a_guest_may_not_set_beside_it() {
        let clash = |text: &str, name: &'static str| {
            let injection = read(&format!("to = 'https://a.example'\n{text}")).unwrap();
            injection.clash(&HeaderName::from_static(name))
        };
        let key = "header = 'X-Key'\nvalue = 'hunter2'";
        assert_eq!(clash(key, "x-key"), Some(Clash::Set));
        assert_eq!(clash(key, "x_key"), Some(Clash::Set));
        assert_eq!((clash(key, "x-keys"), clash(key, "x-amz-acl")), (None, None));
        assert_eq!(clash("header = 'X_Key'\nvalue = 'hunter2'", "x-key"), Some(Clash::Set));
        let aws = "sigv4 = { access_key = 'AKID', secret_key = 'hunter2', region = 'r', service = 's' }";
        let target = format!("{aws}\nallow = ['X-Amz-Target']");
        for name in [
            "x-amz-acl",
            "x-amz-bypass-governance-retention",
            "x-amz-copy-source",
            "x-amz-copy-source-range",
            "x-amz-grant-read",
        ] {
            assert_eq!((clash(aws, name), clash(&target, name)), (Some(Clash::Signed), Some(Clash::Signed)));
        }
        assert_eq!((clash(aws, "x-amz-target"), clash(&target, "x-amz-target")), (Some(Clash::Signed), None));
        assert_eq!((clash(aws, "x-amz-meta-a"), clash(aws, "content-type")), (None, None));
        assert_eq!(clash(aws, "x-amz-date"), Some(Clash::Set));
    }

    #[test]
    fn a_token_is_guarded_without_its_scheme_and_secrets_within_a_value_are_too() {
        let guarded = read("to = 'https://a.example'\nheader = 'x'\nvalue = 'Token hunter2'").unwrap();
        assert_eq!(guarded.secrets(), ["hunter2", "Token hunter2"]);
        let grant: InjectGrant =
            toml::from_str("to = 'https://a.example'\nheader = 'x'\nvalue = 'id=me;key=hunter2;'").unwrap();
        let known = Secrets::default().with(["hunter2".to_owned(), "elsewhere".to_owned()]);
        assert_eq!(Injection::parse(&grant, &known).unwrap().secrets(), ["id=me;key=hunter2;", "hunter2"]);
    }
}
