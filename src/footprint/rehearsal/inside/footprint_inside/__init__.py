"""What a rehearsal runs inside a program's own process. One name alone, so that no module of the program is hidden."""
