//! The machine below: its packages, ports, processes, and what is told to the person at the terminal.

pub mod apt;
pub mod checks;
pub mod ports;
pub mod process;
pub mod progress;
pub mod run;
pub mod wait;
