//! Process entry.
fn main() -> std::process::ExitCode {
    kelson::cli::run()
}
