mod properties;

use super::*;
use crate::oci::ErrorCode;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UUID: &str = "0b5b5c0e-8d4e-4c6e-9a55-2f3a3c1d7e11";

fn parse(method: &str, target: &str) -> Result<Route, RouteError> {
    let target = target.replace("{d}", &format!("sha256:{HEX}")).replace("{u}", UUID);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.as_str(), None),
    };
    Route::parse(method, path, query)
}

fn repository(route: &Route) -> &str {
    route.repository().map_or("", RepositoryName::as_str)
}

#[track_caller]
fn assert_code(code: ErrorCode, cases: &[(&str, &str)]) {
    for (method, target) in cases {
        let error = parse(method, target).expect_err(target);
        assert_eq!(error.code(), code, "{method} {target}: {error:?}");
    }
}

#[track_caller]
fn assert_error(expected: RouteError, cases: &[(&str, &str)]) {
    for (method, target) in cases {
        assert_eq!(parse(method, target), Err(expected), "{method} {target}");
    }
}

#[test]
fn every_endpoint_has_its_route_and_action() {
    for (method, target, name, action, repo) in [
        ("GET", "/v2", "base", Action::Base, ""),
        ("HEAD", "/v2/", "base", Action::Base, ""),
        ("GET", "/v2/_catalog?n=5&last=a", "catalog", Action::Catalog, ""),
        ("GET", "/v2/a/b/tags/list", "list_tags", Action::Pull, "a/b"),
        ("GET", "/v2/a/manifests/v1", "get_manifest", Action::Pull, "a"),
        ("HEAD", "/v2/a/manifests/{d}", "head_manifest", Action::Pull, "a"),
        ("PUT", "/v2/a/manifests/v1?ns=x", "put_manifest", Action::Push, "a"),
        ("DELETE", "/v2/a/manifests/v1", "delete_manifest", Action::Delete, "a"),
        ("GET", "/v2/a/blobs/{d}", "get_blob", Action::Pull, "a"),
        ("HEAD", "/v2/a/blobs/{d}?ns=docker.io", "head_blob", Action::Pull, "a"),
        ("DELETE", "/v2/a/blobs/{d}", "delete_blob", Action::Delete, "a"),
        ("GET", "/v2/a/referrers/{d}", "list_referrers", Action::Pull, "a"),
        ("POST", "/v2/a/blobs/uploads/", "begin_upload", Action::Push, "a"),
        ("POST", "/v2/a/blobs/uploads", "begin_upload", Action::Push, "a"),
        ("POST", "/v2/a/blobs/uploads/?digest={d}", "push_blob", Action::Push, "a"),
        ("POST", "/v2/a/blobs/uploads/?mount={d}&origin=x", "mount_blob", Action::Push, "a"),
        ("GET", "/v2/a/blobs/uploads/{u}", "upload_status", Action::Push, "a"),
        ("PATCH", "/v2/a/blobs/uploads/{u}", "append_upload", Action::Push, "a"),
        ("PUT", "/v2/a/blobs/uploads/{u}?digest={d}", "finish_upload", Action::Push, "a"),
        ("DELETE", "/v2/a/blobs/uploads/{u}", "cancel_upload", Action::Push, "a"),
        ("OPTIONS", "/v2/", "options", Action::Base, ""),
    ] {
        let route = parse(method, target).expect(target);
        assert_eq!((route.name(), route.action()), (name, action), "{method} {target}");
        assert_eq!(repository(&route), repo, "{method} {target}");
    }
}

#[test]
fn names_may_contain_the_words_of_routes() {
    for (target, name, repo) in [
        ("/v2/foo/blobs/uploads/tags/list", "list_tags", "foo/blobs/uploads"),
        ("/v2/tags/list/tags/list", "list_tags", "tags/list"),
        ("/v2/a/manifests/tags/list", "list_tags", "a/manifests"),
        ("/v2/manifests/manifests/manifests", "get_manifest", "manifests"),
        ("/v2/a/tags/manifests/list", "get_manifest", "a/tags"),
        ("/v2/a/blobs/uploads/manifests/uploads", "get_manifest", "a/blobs/uploads"),
        ("/v2/blobs/uploads/blobs/{d}", "get_blob", "blobs/uploads"),
        ("/v2/a/referrers/referrers/{d}", "list_referrers", "a/referrers"),
        ("/v2/blobs/uploads/blobs/uploads/{u}", "upload_status", "blobs/uploads"),
        ("/v2/a/b/manifests/c/manifests/d", "get_manifest", "a/b/manifests/c"),
    ] {
        let route = parse("GET", target).expect(target);
        assert_eq!((route.name(), repository(&route)), (name, repo), "{target}");
    }
    let route = parse("POST", "/v2/tags/blobs/uploads/blobs/uploads/").unwrap();
    assert_eq!(repository(&route), "tags/blobs/uploads");
}

#[test]
fn names_outside_the_grammar_are_refused() {
    let long = format!("/v2/{}/tags/list", "a".repeat(256));
    for target in [
        "/v2/UPPER/tags/list",
        "/v2/-foo/tags/list",
        "/v2/foo-/tags/list",
        "/v2/foo./tags/list",
        "/v2/.foo/tags/list",
        "/v2/_foo/tags/list",
        "/v2/foo..bar/tags/list",
        "/v2/foo___bar/tags/list",
        "/v2/foo._bar/tags/list",
        "/v2/foo//bar/tags/list",
        "/v2//foo/tags/list",
        "/v2/foo//tags/list",
        "/v2//tags/list",
        "/v2/../tags/list",
        "/v2/foo/../bar/tags/list",
        "/v2/foo/./bar/tags/list",
        "/v2/%2e%2e/tags/list",
        "/v2/%2F%2F%2F..%2F..%2F..%2Fetc%2Fpasswd/tags/list",
        "/v2/foo%2Fbar/tags/list",
        "/v2/foo%2fbar/tags/list",
        "/v2/foo%252Fbar/tags/list",
        "/v2/foo%00bar/tags/list",
        "/v2/foo%0a/tags/list",
        "/v2/%ff%fe/tags/list",
        "/v2/%/tags/list",
        "/v2/%zz/tags/list",
        "/v2/foo%5C..%5Cbar/tags/list",
        "/v2/foo%20bar/tags/list",
        "/v2/foo+bar/tags/list",
        "/v2/foo:bar/tags/list",
        "/v2/localhost:5000/foo/tags/list",
        "/v2/f\u{f6}\u{f6}/tags/list",
        "/v2/f%C3%B6%C3%B6/tags/list",
        "/v2/a;b=1/tags/list",
        long.as_str(),
    ] {
        assert_code(ErrorCode::NameInvalid, &[("GET", target)]);
    }
    assert_code(
        ErrorCode::NameInvalid,
        &[
            ("PUT", "/v2/inva..lid/manifests/v1"),
            ("POST", "/v2/UPPER/blobs/uploads/"),
            ("PATCH", "/v2/UPPER/blobs/uploads/{u}"),
            ("GET", "/v2/a%2F..%2Fb/blobs/{d}"),
            ("GET", "/v2/UPPER/referrers/{d}"),
        ],
    );
    assert!(parse("GET", &format!("/v2/{}/tags/list", "a".repeat(255))).is_ok());
}

#[test]
fn an_encoded_character_is_the_same_character_once() {
    let route = parse("GET", &format!("/v2/f%6Fo/blobs/sha256%3A{HEX}")).unwrap();
    assert_eq!(route, parse("GET", "/v2/foo/blobs/{d}").unwrap());
    assert_eq!(parse("GET", "/v2/foo/%74ags/list"), parse("GET", "/v2/foo/tags/list"));
    assert_eq!(parse("GET", "/v2/%5fcatalog"), parse("GET", "/v2/_catalog"));
}

#[test]
fn digests_outside_the_grammar_are_refused() {
    let shorter = format!("/v2/a/blobs/sha256:{}", &HEX[1..]);
    let nul = format!("/v2/a/blobs/sha256:{}%00", &HEX[2..]);
    let upper = format!("/v2/a/blobs/sha256:{}", HEX.to_uppercase());
    let short512 = format!("/v2/a/blobs/sha512:{HEX}");
    let name = format!("/v2/a/blobs/SHA256:{HEX}");
    let long = format!("/v2/a/blobs/sha256:{}", "0".repeat(10_000));
    for target in [
        shorter.as_str(),
        nul.as_str(),
        upper.as_str(),
        short512.as_str(),
        name.as_str(),
        long.as_str(),
        "/v2/a/blobs/sha256:",
        "/v2/a/blobs/sha256",
        "/v2/a/blobs/:",
        "/v2/a/blobs/latest",
        "/v2/a/blobs/{d}%20",
        "/v2/a/blobs/{d}%0a",
        "/v2/a/blobs/%ff",
        "/v2/a/blobs/sha256:..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v2/a/blobs/md5:5d41402abc4b2a76b9719d911017c592",
        "/v2/a/referrers/latest",
        "/v2/a/referrers/sha256:zz",
        "/v2/a/manifests/sha256:baddigeststring",
        "/v2/a/referrers/{d}?last=x",
    ] {
        assert_code(ErrorCode::DigestInvalid, &[("GET", target)]);
    }
    assert_code(
        ErrorCode::DigestInvalid,
        &[
            ("PUT", "/v2/a/manifests/a:b"),
            ("PUT", "/v2/a/manifests/sha256:baddigeststring"),
            ("DELETE", "/v2/a/manifests/sha256:zz"),
            ("DELETE", "/v2/a/blobs/sha256:zz"),
            ("PUT", "/v2/a/blobs/uploads/{u}"),
            ("PUT", "/v2/a/blobs/uploads/{u}?digest="),
            ("PUT", "/v2/a/blobs/uploads/{u}?digest"),
            ("PUT", "/v2/a/blobs/uploads/{u}?digest={d}%00"),
            ("PUT", "/v2/a/blobs/uploads/{u}?digest={d}&digest={d}"),
            ("PUT", "/v2/a/blobs/uploads/{u}?digest=md5:5d41402abc4b2a76b9719d911017c592"),
            ("POST", "/v2/a/blobs/uploads/?digest=sha256:zz"),
            ("POST", "/v2/a/blobs/uploads/?mount=sha256:zz&from=b"),
            ("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5"),
            ("POST", "/v2/a/blobs/uploads/?digest-algorithm="),
        ],
    );
}

#[test]
fn what_cannot_be_a_tag_is_refused_on_push_and_unknown_otherwise() {
    let long = "t".repeat(129);
    for tag in [
        "-dash", ".dot", "v1%0a", "v1%00", "v1@{d}", "a+b", "a%20b", "a%2Fb", "%2e%2e", "%ff",
        "t\u{e4}g", "*", &long,
    ] {
        let target = format!("/v2/a/manifests/{tag}");
        assert_code(ErrorCode::ManifestInvalid, &[("PUT", &target)]);
        for method in ["GET", "HEAD", "DELETE"] {
            assert_error(RouteError::ManifestUnknown, &[(method, &target)]);
        }
    }
    assert!(parse("PUT", &format!("/v2/a/manifests/{}", "t".repeat(128))).is_ok());
}

#[test]
fn tag_parameters_are_taken_with_a_digest_alone() {
    let tags = |target: &str| match parse("PUT", target) {
        Ok(Route::PutManifest { tags, .. }) => Ok(tags.iter().map(Tag::to_string).collect()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let expected: Vec<_> = ["b", "a"].map(str::to_owned).into();
    assert_eq!(tags("/v2/a/manifests/{d}?tag=b&x=1&tag=a&tag=b"), Ok(expected));
    assert_eq!(tags("/v2/a/manifests/v1?tag=b"), Err(RouteError::TagsWithTag));
    for query in ["tag=bad%20tag", "tag=a&tag=", "tag", "tag=a/b", "tag={d}"] {
        assert_code(
            ErrorCode::ManifestInvalid,
            &[("PUT", &format!("/v2/a/manifests/{{d}}?{query}"))],
        );
    }
    let many = |count: usize| format!("/v2/a/manifests/{{d}}?{}", "tag=t&".repeat(count));
    assert!(parse("PUT", &many(TAGS_MAX)).is_ok());
    assert_error(RouteError::TooManyTags, &[("PUT", &many(TAGS_MAX + 1)), ("PUT", &many(10_000))]);
}

#[test]
fn page_sizes_are_plain_numbers() {
    for list in ["/v2/a/tags/list", "/v2/_catalog"] {
        for n in [
            "-1",
            "abc",
            "1.5",
            "%00",
            "",
            "+1",
            "%2B1",
            "%201",
            "1e3",
            "0x10",
            "4294967296",
            "1000000000000",
            "99999999999999999999",
            "1,2",
            "%D9%A3",
        ] {
            assert_error(RouteError::PageSizeInvalid, &[("GET", &format!("{list}?n={n}"))]);
        }
        let repeated = RouteError::ParameterRepeated("n");
        assert_error(repeated, &[("GET", &format!("{list}?n=1&n=1000000"))]);
        let repeated = RouteError::ParameterRepeated("last");
        assert_error(repeated, &[("GET", &format!("{list}?last=a&last=a"))]);
    }
    let page = |query: &str| match parse("GET", &format!("/v2/a/tags/list{query}")) {
        Ok(Route::ListTags { page: PageQuery { n, last }, .. }) => (n, last),
        other => panic!("{other:?}"),
    };
    let last = |text: &str| Some(text.to_owned());
    assert_eq!(page(""), (None, None));
    assert_eq!(page("?n=0"), (Some(0), None));
    assert_eq!(page("?n=007&last="), (Some(7), last("")));
    assert_eq!(page("?n=4294967295&last=v%2b1+2"), (Some(u32::MAX), last("v+1 2")));
    assert_eq!(page("?last=%00&N=x&&="), (None, last("\0")));
    assert_eq!(page("?last=a%ffb%zz"), (None, last("a\u{fffd}b%zz")));
    let long = "z".repeat(10_000);
    assert_eq!(page(&format!("?n=2&last={long}")), (Some(2), Some(long)));
}

#[test]
fn artifact_types_are_alternatives() {
    let types = |query: &str| match parse("GET", &format!("/v2/a/referrers/{{d}}?{query}")) {
        Ok(Route::ListReferrers { artifact_types, .. }) => Ok(artifact_types),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let query = "artifactType=b/c%2Bd&artifactType=&artifactType=a/b&artifactType=a/b&n=x";
    assert_eq!(types(query), Ok(vec!["b/c+d".to_owned(), "a/b".to_owned()]));
    let injected = "x\r\nX-Injected:1".to_owned();
    assert_eq!(types("artifactType=x%0d%0aX-Injected:1"), Ok(vec![injected]));
    assert_eq!(types(&format!("artifactType={}", "a".repeat(60_000))).map(|t| t.len()), Ok(1));
    let many = |count: usize| -> String {
        (0..count).map(|index| format!("artifactType={index}&")).collect()
    };
    assert_eq!(types(&many(ARTIFACT_TYPES_MAX)).map(|t| t.len()), Ok(ARTIFACT_TYPES_MAX));
    assert_eq!(types(&many(ARTIFACT_TYPES_MAX + 1)), Err(RouteError::TooManyArtifactTypes));
    assert_eq!(types(&"artifactType=a&".repeat(4000)).map(|t| t.len()), Ok(1));
}

#[test]
fn an_impossible_mount_source_opens_a_session() {
    let sha512 = format!("sha512:{}", HEX.repeat(2));
    let target = |query: &str| format!("/v2/a/blobs/uploads/?mount={sha512}{query}");
    for query in ["&from=..%2F..%2Fetc", "&from=UPPER", "&from=b&from=c", "&from=%00"] {
        let Ok(Route::BeginUpload { algorithm, .. }) = parse("POST", &target(query)) else {
            panic!("{query}");
        };
        assert_eq!(algorithm, Algorithm::Sha512, "the session is for the blob's digest");
    }
    for (query, expected) in [("", None), ("&from=", None), ("&from=b%2Fc", Some("b/c"))] {
        let Ok(Route::MountBlob { from, .. }) = parse("POST", &target(query)) else {
            panic!("{query}");
        };
        assert_eq!(from.as_ref().map(RepositoryName::as_str), expected);
    }
}

#[test]
fn what_cannot_be_a_session_is_none() {
    let long = "a".repeat(4096);
    let upper = UUID.to_uppercase();
    let simple = UUID.replace('-', "");
    for id in ["..%2f..%2f..%2fetc%2fpasswd", "%00", "*", "{u}x", "%ff", &long, &upper, &simple] {
        for method in ["GET", "PATCH", "DELETE", "PUT"] {
            let target = format!("/v2/a/blobs/uploads/{id}?digest={{d}}");
            assert_error(RouteError::UploadUnknown, &[(method, &target)]);
        }
    }
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let read: &[&str] = &["GET", "HEAD", "OPTIONS"];
    for (method, target, expected) in [
        ("PUT", "/v2/", read),
        ("FOO", "/v2/", read),
        ("get", "/v2/", read),
        ("TRACE", "/v2/", read),
        ("POST", "/v2/a/tags/list", read),
        ("DELETE", "/v2/_catalog", read),
        ("PUT", "/v2/a/referrers/{d}", read),
        ("GET", "/v2/a/blobs/uploads/", &["OPTIONS", "POST"]),
        ("PATCH", "/v2/a/blobs/uploads/", &["OPTIONS", "POST"]),
        ("PUT", "/v2/a/blobs/uploads?digest={d}", &["OPTIONS", "POST"]),
        ("POST", "/v2/a/blobs/uploads/{u}", &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"]),
        ("POST", "/v2/a/manifests/v1", &["DELETE", "GET", "HEAD", "OPTIONS", "PUT"]),
        ("PUT", "/v2/a/blobs/{d}", &["DELETE", "GET", "HEAD", "OPTIONS"]),
        ("POST", "/v2/a/blobs/{d}", &["DELETE", "GET", "HEAD", "OPTIONS"]),
    ] {
        let error = parse(method, target).expect_err(target);
        assert_eq!(error, RouteError::MethodNotAllowed { allow: expected }, "{method} {target}");
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert_eq!(parse("OPTIONS", target), Ok(Route::Options { allow: expected }), "{target}");
    }
}

#[test]
fn other_paths_are_no_endpoints() {
    for target in [
        "",
        "/",
        "v2/",
        "/v2x",
        "/v1/repositories/x/images",
        "/v2/a/foo/bar",
        "/debug/pprof/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v2/;jsessionid=1/x",
        "/v2/a",
        "/v2/a/b",
        "/v2//",
        "/v2/tags/list",
        "/v2/manifests/v1",
        "/v2/blobs/uploads/",
        "/v2/blobs/{d}",
        "/v2/a/blobs/",
        "/v2/a/blobs",
        "/v2/a/manifests/",
        "/v2/a/manifests",
        "/v2/a/referrers/",
        "/v2/a/manifests/a/b",
        "/v2/a/tags/list/",
        "/v2/a/tags",
        "/v2/a/uploads/{u}",
        "/v2/a/blobs/uploads/{u}/",
        "/v2/a/blobs/uploads//{u}",
        "/v2/a/Tags/list",
        "*",
        "/v2/_catalog/",
        "/v2/a/_catalog",
        "/v2/foo%2Ftags%2Flist",
    ] {
        for method in ["GET", "PUT", "OPTIONS", "FOO"] {
            assert_error(RouteError::NotFound, &[(method, target)]);
        }
    }
}
