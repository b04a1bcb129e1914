//! Stories that run the real programs: what the quickstart tells and the system tests try.
//!
//! Never: shortcuts into the programs. A story starts processes, types commands, asks over sockets and reads what is
//! printed; only its attacks touch files.

pub mod cable;
pub mod cameras;
pub mod chaos;
pub mod clock;
pub mod draws;
pub mod facts;
pub mod footprint;
pub mod fouling;
pub mod hardships;
pub mod operator;
pub mod play;
pub mod processes;
pub mod programs;
pub mod quickstart;
pub mod story;
pub mod witness;
pub mod world;
