//! `Link` headers to the next page of a list (RFC 8288).

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Those, and what a path may contain besides (RFC 3986, section 3.3). A percent sign is left
/// alone: the path is encoded already, and this only keeps it from breaking out of the header.
const PATH: &AsciiSet = &PARAMETER
    .remove(b'!')
    .remove(b'$')
    .remove(b'%')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The value of a `Link` header that leads to the next page: visible ASCII only.
///
/// `path` is that of the list, with the configured prefix and encoded already, such as
/// `/v2/<name>/tags/list`; `parameters` are its query, in order and not yet encoded.
pub fn next(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut link = format!("<{}", utf8_percent_encode(path, PATH));
    for (index, (key, value)) in parameters.iter().enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        let key = utf8_percent_encode(key, PARAMETER);
        let value = utf8_percent_encode(value, PARAMETER);
        // Writing to a string cannot fail.
        let _ = write!(link, "{separator}{key}={value}");
    }
    link.push_str(">; rel=\"next\"");
    link
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `<path?query>; rel="next"`, read the way clients do: up to the first `>`.
    fn read(link: &str) -> (String, Vec<(String, String)>) {
        let (target, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
        assert_eq!(rest, "; rel=\"next\"");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (path.to_owned(), form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    #[test]
    fn next_page_of_tags_under_a_prefix() {
        assert_eq!(
            next("/registry/v2/a/b/tags/list", &[("last", "v1.0_x-y"), ("n", "100")]),
            "</registry/v2/a/b/tags/list?last=v1.0_x-y&n=100>; rel=\"next\""
        );
        assert_eq!(
            next("/v2/_catalog", &[("last", "a/b")]),
            "</v2/_catalog?last=a%2Fb>; rel=\"next\""
        );
    }

    #[test]
    fn path_cannot_break_out_of_the_header() {
        assert_eq!(next("/a>\r\nX: 1?b#c%20", &[]), "</a%3E%0D%0AX:%201%3Fb%23c%20>; rel=\"next\"");
    }

    proptest! {
        #[test]
        fn link_reads_back(
            path in "(/[a-z0-9._-]{1,8}){1,5}",
            parameters in proptest::collection::vec(any::<(String, String)>(), 0..5),
        ) {
            let borrowed: Vec<_> =
                parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let link = next(&path, &borrowed);
            prop_assert!(link.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(read(&link), (path, parameters));
        }
    }
}
