//! F-5: method, path and query of a request become a route whose every part an independent form
//! parser finds in the query; and a `Link` that the server writes is read back as it was meant.
//! The input is a method, a path and a query, one a line.
#![no_main]

use kelson::http::link;
use kelson::http::route::{ARTIFACT_TYPES_MAX, PageQuery, Route, TAGS_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(method), Some(path)) = (lines.next(), lines.next()) else { return };
    let query = lines.next();
    let Ok(route) = Route::parse(method, path, query) else { return };
    let parameters: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let all = |name: &str| -> Vec<&str> {
        let named = parameters.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    };
    match &route {
        Route::Catalog { page } => check_page("/v2/_catalog", page, &all),
        Route::ListTags { repository, page } => {
            check_page(&format!("/v2/{repository}/tags/list"), page, &all);
        }
        Route::PutManifest { tags, .. } => {
            assert!(tags.len() <= TAGS_MAX);
            let mut expected: Vec<&str> = Vec::new();
            for tag in all("tag") {
                if !expected.contains(&tag) {
                    expected.push(tag);
                }
            }
            assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), expected);
        }
        Route::ListReferrers { artifact_types, last, .. } => {
            assert!(artifact_types.len() <= ARTIFACT_TYPES_MAX);
            assert!(artifact_types.iter().all(|text| all("artifactType").contains(&&**text)));
            assert_eq!(last.map(|digest| digest.to_string()).as_deref(), one(&all("last")));
        }
        Route::MountBlob { digest, from, .. } => {
            assert_eq!(Some(digest.to_string().as_str()), one(&all("mount")));
            let from = from.as_ref().map(|name| name.as_str());
            assert_eq!(from, one(&all("from")).filter(|text| !text.is_empty()));
        }
        Route::PushBlob { digest, .. } | Route::FinishUpload { digest, .. } => {
            assert_eq!(Some(digest.to_string().as_str()), one(&all("digest")));
        }
        _ => {}
    }
    // The repository is named by the path alone.
    if let Some(repository) = route.repository() {
        assert!(path.contains('%') || path.contains(repository.as_str()));
    }
});

fn one<'a>(values: &[&'a str]) -> Option<&'a str> {
    assert!(values.len() <= 1, "a parameter that may occur once was taken twice");
    values.first().copied()
}

/// The page is that of the query, and a link to it leads to it.
fn check_page<'a>(path: &str, page: &PageQuery, all: &impl Fn(&str) -> Vec<&'a str>) {
    assert_eq!(page.last.as_deref(), one(&all("last")));
    assert_eq!(page.n.map(u64::from), one(&all("n")).and_then(|text| text.parse().ok()));
    let n = page.n.map(|n| n.to_string());
    let parameters: Vec<(&str, &str)> = [("last", page.last.as_deref()), ("n", n.as_deref())]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let link = link::next(path, &parameters);
    assert!(link.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{link}");
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    let target = target.unwrap_or_else(|| panic!("{link}"));
    assert!(!target.contains(['<', '>', '"', ' ']), "{link}");
    let (linked_path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    let linked = match Route::parse("GET", linked_path, query) {
        Ok(Route::Catalog { page } | Route::ListTags { page, .. }) => page,
        other => panic!("{link} leads to {other:?}"),
    };
    assert_eq!(&linked, page, "{link}");
}
