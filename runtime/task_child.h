/* SPDX-License-Identifier: MIT */
/* task_child: `exed --task`, the process that a task's Lua code runs in. It talks to its node over a
 * socket (descriptor 0) and can do nothing else: no other descriptor, no other system call. */
#ifndef EXED_TASK_CHILD_H
#define EXED_TASK_CHILD_H

/* Frames on the socket, both ways: four bytes of length, the most significant first, then so many bytes
 * of JSON. Longer ones are refused. */
#define TASK_FRAME_MAX (64u << 20)
/* Of those to the node: it holds them in its own memory. */
#define TASK_MESSAGE_MAX (8u << 20)

/* Exit codes that the node tells people of. */
enum {
	TASK_EXIT_OK = 0,
	TASK_EXIT_PROTOCOL = 2, /* a frame that cannot be read; the node is gone */
	TASK_EXIT_MEMORY = 3,   /* over its limit */
	TASK_EXIT_ERROR = 4,    /* Lua failed where it must not; said in a frame { error = text } */
	TASK_EXIT_SANDBOX = 5,  /* the sandbox cannot be set up */
};

/* Runs a task to its end. limits: memory in bytes for its Lua state, CPU in seconds. Returns an exit
 * code. The first frame has the modules: { main = NAME, modules = { NAME = [path, text], ... } }; the
 * module of that name is called with the module exed.task.channel:
 *   send(text)        a frame to the node; written at the next receive, at latest
 *   receive() -> text waits for the next frame; the process ends when the node has gone
 *   switch(thread)    the coroutine that runs now, for the report of a line
 * SIGUSR1 makes it report where it is: a frame { stuck = "file:line" }. */
int task_child_run(unsigned long long memory, unsigned long cpu);

#endif
