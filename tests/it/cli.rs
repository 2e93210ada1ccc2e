//! The command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::support::server::refusal;
use crate::support::{Image, Options, Server};

fn kelson(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kelson"));
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = kelson(&["--version"]);
    assert!(version.status.success());
    assert!(stdout(&version).contains(env!("CARGO_PKG_VERSION")));
    let help = kelson(&["--help"]);
    assert!(help.status.success());
    for command in ["serve", "config", "ls"] {
        assert!(stdout(&help).contains(command), "{command}");
    }
}

#[test]
fn wrong_command_is_an_error_that_names_it() {
    let output = kelson(&["sevre"]);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("sevre"));
}

#[test]
fn program_called_registry_does_the_same() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kelson"));
    let output = command.arg0("registry").arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn missing_configuration_file_is_named() {
    let output = kelson(&["serve", "/nowhere/config.yml"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/nowhere/config.yml"), "{text}");
}

#[test]
fn second_server_on_a_store_is_refused() {
    let server = Server::start();
    let text = refusal(&Options::default(), server.folder());
    assert!(text.contains("LOCK") || text.contains("in use"), "{text}");
    let _ = server.client().get("/v2/").expect(200);
}

#[test]
fn start_says_address_and_store() {
    let server = Server::start();
    let log = server.log();
    assert!(log.contains(&server.address().to_string()), "{log}");
    assert!(log.contains(server.root().to_str().unwrap()), "{log}");
}

#[test]
fn list_works_beside_a_running_server_and_without_one() {
    let mut server = Server::start();
    let client = server.client();
    let image = Image::random(&[1000, 100_000]);
    image.push(&client, "team/app", "v1");
    image.push(&client, "team/app", "v2");
    Image::random(&[]).push(&client, "other", "latest");
    let list = |server: &Server, arguments: &[&str]| {
        let output = server.command().arg("ls").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    let beside = (list(&server, &[]), list(&server, &["team/app"]), list(&server, &["--json"]));
    assert!(beside.0.contains("team/app") && beside.0.contains("other"), "{}", beside.0);
    for text in ["v1", "v2", &image.digest()[.."sha256:".len() + 12]] {
        assert!(beside.1.contains(text), "{text} is not in {}", beside.1);
    }
    let objects = beside.2.lines().map(|line| serde_json::from_str(line).unwrap());
    let objects: Vec<serde_json::Value> = objects.collect();
    assert!(beside.2.contains("\"team/app\"") && objects.len() >= 2, "{}", beside.2);
    server.stop();
    let alone = (list(&server, &[]), list(&server, &["team/app"]), list(&server, &["--json"]));
    assert_eq!(alone, beside);
    let output = server.command().args(["ls", "never/seen"]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn config_check_tells_values_and_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    std::fs::write(&file, "version: 0.1\nstorage: filesystem\nhttp:\n  addr: 127.0.0.1:6000\n")
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kelson"));
    command.args(["config", "check"]).arg(&file).env("REGISTRY_CATALOG_MAXENTRIES", "77");
    let output = command.output().unwrap();
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    let line = |key: &str| text.lines().find(|line| line.contains(key)).unwrap_or_default();
    assert!(line("http.addr").contains("127.0.0.1:6000"), "{text}");
    assert!(line("http.addr").contains("config.yml"), "{text}");
    assert!(line("catalog.maxentries").contains("77"), "{text}");
    assert!(line("catalog.maxentries").contains("REGISTRY_CATALOG_MAXENTRIES"), "{text}");
    std::fs::write(&file, "version: 0.1\nstorage: filesystem\nlog:\n  level: loud\n").unwrap();
    let output = command.output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_server_that_may_not_be_asked_is_not_taken_for_none() {
    const NOBODY: u32 = 65534;
    let server = Server::start();
    let socket = server.root().join("kelson/admin.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Where others can run it, whatever holds the one that was built.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kelson");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_kelson"), &program).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    for arguments in [&["garbage-collect"][..], &["fsck"], &["ls"]] {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir("/");
        for (name, value) in server.command().get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        } else {
            fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("admin.sock"), "{arguments:?}: {text}");
        assert!(text.contains("run this as the user that serves the store"), "{text}");
    }
}
