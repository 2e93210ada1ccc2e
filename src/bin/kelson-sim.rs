//! Cuts the power under a simulated registry; `--help` says how.

fn main() -> std::process::ExitCode {
    kelson::sim::main()
}
