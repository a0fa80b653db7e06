/*-------------------------------------------------------------------------
 *
 * pace.c
 *		How a verification makes way for others.
 *
 * Two means, since a node may be short of processors or of disk: the process
 * has the lowest priority (nice 19), so that it gets what others leave, and it
 * sleeps after every so many blocks, as autovacuum does.  ferry.verify(), like
 * VACUUM, does neither: somebody waits for it.
 *
 * Linux may share out processors among sessions first ("autogroup"; not where
 * cgroups do), and each of the server's processes is a session: nice then counts
 * among processes of one session only, which here means nothing.  The session has a
 * priority of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"

#include "verify/pace.h"

#define NICEST 19

int			ferry_verify_cost_limit = 50;
double		ferry_verify_cost_delay_ms = 20;

/* how often it is told how far we are */
#define TELL_BLOCKS 1000

static int	blocks = 0;
static char announced[256];
static uint64 expected = 0;
static uint64 done = 0;

/* the kernel takes one such wish in 100 ms, of all processes together */
#define AUTOGROUP_TRIES 5
#define AUTOGROUP_WAIT_MS 110

static void
lower_autogroup(void)
{
	const char *text = CppAsString2(NICEST);
	int			fd = getsid(0) == getpid() ? open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	for (int i = 0; i < AUTOGROUP_TRIES && write(fd, text, strlen(text)) < 0 && errno == EAGAIN; i++)
		pg_usleep(AUTOGROUP_WAIT_MS * 1000);
	close(fd);
}

void
pace_lower_priority(void)
{
	static bool lowered = false;

	/* if it cannot be had, the sleeps remain */
	if (!lowered)
	{
		(void) setpriority(PRIO_PROCESS, 0, NICEST);
		lower_autogroup();
	}
	lowered = true;
}

void
pace_announce(const char *what)
{
	strlcpy(announced, what, sizeof(announced));
	expected = 0;
	pgstat_report_activity(STATE_RUNNING, announced);
}

void
pace_expect(uint64 nblocks)
{
	expected = nblocks;
	done = 0;
}

static void
tell(void)
{
	char		text[sizeof(announced) + 32];

	snprintf(text, sizeof(text), "%s: %d %%", announced, (int) Min(done * 100 / expected, 100));
	pgstat_report_activity(STATE_RUNNING, text);
}

void
pace_block(bool paced)
{
	CHECK_FOR_INTERRUPTS();
	if (expected > 0 && ++done % TELL_BLOCKS == 0)
		tell();
	if (!paced || ferry_verify_cost_delay_ms <= 0 || ++blocks < ferry_verify_cost_limit)
		return;
	blocks = 0;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) Max(ferry_verify_cost_delay_ms, 1), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
