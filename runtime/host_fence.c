/* SPDX-License-Identifier: MIT */
/* host_fence: between host_run.c and fence.c. The host's side. */
#include "host_fence.h"

int host_fence_begin(struct host_fence *f, const struct fanout_plan *plan, const struct ssh_command *cmd,
		     const struct ssh_host *h, const char *op_id, bool forbid, struct err *err)
{
	const struct fence_command c = {
		.op_id = op_id,
		.command = cmd->command,
		.before = plan->before,
		.tidy = plan->tidy,
		.dir = ssh_host_fence_dir(h) ? ssh_host_fence_dir(h) : plan->fence_dir,
		.quiet = plan->quiet,
		.input = cmd->input_len > 0 || cmd->content,
		.sync = plan->sync,
		.ttl_s = plan->fence_ttl_s,
	};

	host_fence_deinit(f);
	if (ssh_host_raw(h) && plan->transport == FANOUT_SSH)
		return err_set(err, ERR_INVALID, "there is no fence with exed_shell = raw");
	fence_reader_init(&f->reader, op_id);
	f->on = true;
	if (forbid ? fence_forbid(&f->text, op_id, c.dir, c.tidy, err) : fence_wrap(&f->text, &c, err))
		return -err->code;
	return buf_str(&f->text) ? 0 : err_set(err, ERR_MEMORY, "out of memory");
}

void host_fence_deinit(struct host_fence *f)
{
	buf_deinit(&f->text);
	fence_reader_deinit(&f->reader);
	*f = (struct host_fence){ 0 };
}

int host_fence_read(struct host_fence *f, const char *data, size_t n, fence_output *output, void *arg)
{
	if (f->broken.code)
		return 0;
	return fence_reader_feed(&f->reader, data, n, output, arg, &f->broken);
}

static void no_output(void *arg, const char *data, size_t n)
{
	(void)arg;
	(void)data;
	(void)n;
}

enum fence_said host_fence_forbidden(struct host_fence *f, const struct ssh_result *r)
{
	if (f->broken.code || r->err.code || r->timed_out)
		return FENCE_NOTHING;
	return fence_reader_end(&f->reader, no_output, NULL);
}

/* Started, and nobody knows how it ended. */
static bool unknown(struct ssh_result *r, const char *why)
{
	r->exited = r->cancelled = false;
	r->signal[0] = '\0';
	err_set(&r->err, ERR_CLOSED, "%s", why);
	return true;
}

bool host_fence_end(struct host_fence *f, struct ssh_result *r, bool settles, fence_output *output,
		    void *arg, struct err *why)
{
	enum fence_said said;

	if (f->broken.code)
		return unknown(r, f->broken.message);
	said = fence_reader_end(&f->reader, output, arg);
	if (said == FENCE_NEVER || said == FENCE_NO_PLACE) {
		err_set(why, ERR_REFUSED, "%s", fence_said_why(said));
		return false;
	}
	/* A broken connection, a limit and a cancel have told their own story. */
	if (r->err.code || r->timed_out || r->cancelled) {
		r->exited = r->exited && !fence_said_why(said);
		return true;
	}
	if (r->signal[0]) /* the fence's shell itself; what it started may run on */
		return unknown(r, fence_said_why(FENCE_DIED));
	if (said == FENCE_NOTHING && !settles) {
		/* It says `new` before it starts anything. */
		err_set(why, ERR_PROTOCOL, "%s", fence_said_why(said));
		return false;
	}
	return fence_said_why(said) ? unknown(r, fence_said_why(said)) : true;
}
