//! The query of a request, as `application/x-www-form-urlencoded` (URL Standard, section 5.1),
//! which is what Go's and Python's clients write.

use percent_encoding::percent_decode_str;

use super::RouteError;

/// The parameters in order, decoded once. Malformed escapes stand for themselves and what is
/// not UTF-8 becomes U+FFFD; no grammar of ours has either.
pub fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// The value of the parameter `name`; twice is once too often, as parsers disagree on which
/// of two counts.
pub fn single(query: &str, name: &'static str) -> Result<Option<String>, RouteError> {
    let mut values = all(query, name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(RouteError::ParameterRepeated(name)),
        (value, None) => Ok(value),
    }
}

/// The values of every parameter `name`, in order.
pub fn all<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    parameters(query).filter(move |(key, _)| key == name).map(|(_, value)| value)
}
