//! The fleet server's daemon.

fn main() -> std::process::ExitCode {
    tern_fleet_server::server_main(std::env::args_os().skip(1))
}
