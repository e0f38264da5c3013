//! The static binary that runs in Job pods.

fn main() -> std::process::ExitCode {
    timetracker_operator::agent::main()
}
