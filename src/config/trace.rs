//! `[trace]`: where spans go, and of how many requests.

use http::Uri;

/// `[trace]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub collector: Collector,
    /// Of requests for which no trusted client has decided so many in 65,536.
    pub sample: u32,
    /// What the spans' service is called.
    pub service: String,
    /// Field lines that the collector wants.
    pub headers: Vec<(String, String)>,
}

/// The collector that spans are sent to: OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    pub is_secure: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl Collector {
    /// Reads a URL as `http://127.0.0.1:4318/v1/traces`.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn of(text: &str) -> Result<Self, String> {
        let help = "write it as \"http://127.0.0.1:4318/v1/traces\"";
        let url: Uri = text.parse().map_err(|_| format!("that is no URL: {help}"))?;
        let is_secure = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("it does not begin with http:// or https://: {help}")),
        };
        let authority = url.authority().ok_or_else(|| format!("it has no host: {help}"))?;
        if authority.as_str().contains('@') {
            return Err("credentials go into \"headers\", as in { authorization = \"Bearer …\" }"
                .to_owned());
        }
        let port = url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = match url.path_and_query().map_or("/", |path| path.as_str()) {
            "/" | "" => "/v1/traces",
            path => path,
        };
        let host = authority.host().to_owned();
        Ok(Self { is_secure, host, port, path: path.to_owned() })
    }

    /// Host and port, as a URL has them.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_read() {
        let read =
            |text: &str| Collector::of(text).map(|one| (one.is_secure, one.authority(), one.path));
        let all = |secure, authority: &str, path: &str| {
            Ok((secure, authority.to_owned(), path.to_owned()))
        };
        assert_eq!(read("http://127.0.0.1:4318"), all(false, "127.0.0.1:4318", "/v1/traces"));
        assert_eq!(read("https://a.example/x?y=1"), all(true, "a.example:443", "/x?y=1"));
        assert_eq!(read("http://[::1]:4318/"), all(false, "[::1]:4318", "/v1/traces"));
        for bad in ["127.0.0.1:4318", "ftp://a/", "http://", "http://u:p@a/", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
