/*
 * An NBD client that does nothing but keep DEPTH requests in flight through libnbd's asynchronous calls.
 *
 *     nbd_client URI randread|randwrite|read|write BLOCK_SIZE DEPTH WARMUP_MS MEASURED_MS SEED
 *
 * After the warm-up it writes "begin" and waits for a line; after the last answer of the measured time it
 * writes one JSON object and waits for its input to end, so that whoever started it can look at both
 * processes while they are still there.
 *
 * Latencies are counted in fio's buckets: 64 for each power of two of nanoseconds.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define SUB_BITS 6
#define BUCKETS ((64 - SUB_BITS) << SUB_BITS)

struct client;

struct slot {
    struct client *client;
    char *buffer;
    uint64_t started;
};

struct client {
    struct nbd_handle *nbd;
    uint64_t blocks, next, block_size, stop_at, dice;
    unsigned depth, in_flight;
    int sequential, writing;
    uint64_t count, total, least, greatest;
    uint64_t buckets[BUCKETS];
};

static void fail(const char *what)
{
    const char *why = nbd_get_error();

    fprintf(stderr, "nbd_client: %s: %s\n", what, why ? why : strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* xorshift64*, for offsets that are spread evenly over the disk */
static uint64_t draw(struct client *c)
{
    c->dice ^= c->dice >> 12;
    c->dice ^= c->dice << 25;
    c->dice ^= c->dice >> 27;
    return c->dice * UINT64_C(2685821657736338717);
}

static void count_latency(struct client *c, uint64_t ns)
{
    int shift = ns ? 63 - __builtin_clzll(ns) - SUB_BITS : 0;
    uint64_t bucket = shift <= 0 ? ns : ((uint64_t)shift << SUB_BITS) + (ns >> shift);

    c->buckets[bucket]++;
    c->count++;
    c->total += ns;
    if (ns < c->least)
        c->least = ns;
    if (ns > c->greatest)
        c->greatest = ns;
}

static int answered(void *opaque, int *error)
{
    struct slot *slot = opaque;
    struct client *c = slot->client;
    uint64_t now = now_ns();

    if (*error) {
        fprintf(stderr, "nbd_client: the server answered: %s\n", strerror(*error));
        exit(1);
    }
    count_latency(c, now - slot->started);
    c->in_flight--;
    slot->started = 0;
    return 1; /* retire the command: nobody asks for it */
}

static void submit(struct slot *slot, uint64_t at)
{
    struct client *c = slot->client;
    nbd_completion_callback callback = { .callback = answered, .user_data = slot };
    uint64_t block = c->sequential ? c->next++ % c->blocks : draw(c) % c->blocks;
    uint64_t offset = block * c->block_size;
    int64_t cookie;

    slot->started = at;
    c->in_flight++;
    if (c->writing)
        cookie = nbd_aio_pwrite(c->nbd, slot->buffer, c->block_size, offset, callback, 0);
    else
        cookie = nbd_aio_pread(c->nbd, slot->buffer, c->block_size, offset, callback, 0);
    if (cookie == -1)
        fail("request");
}

static void run(struct client *c, struct slot *slots, uint64_t ms)
{
    uint64_t now = now_ns(), stop_at = now + ms * 1000000;

    memset(c->buckets, 0, sizeof(c->buckets));
    c->count = c->total = c->greatest = 0;
    c->least = UINT64_MAX;
    for (;;) {
        if (now < stop_at)
            for (unsigned i = 0; i < c->depth; i++)
                if (!slots[i].started)
                    submit(&slots[i], now);
        if (!c->in_flight)
            break;
        if (nbd_poll(c->nbd, -1) == -1)
            fail("poll");
        now = now_ns();
    }
}

static double seconds(struct timeval *time)
{
    return time->tv_sec + time->tv_usec / 1e6;
}

static void report(struct client *c, uint64_t took, struct rusage *from)
{
    struct rusage to;
    const char *comma = "";

    getrusage(RUSAGE_SELF, &to);
    printf("{\"took_ns\": %" PRIu64 ", \"user_s\": %.6f, \"system_s\": %.6f, ", took,
           seconds(&to.ru_utime) - seconds(&from->ru_utime), seconds(&to.ru_stime) - seconds(&from->ru_stime));
    printf("\"min\": %" PRIu64 ", \"max\": %" PRIu64 ", \"mean\": %.6f, \"N\": %" PRIu64 ", \"bins\": {",
           c->count ? c->least : 0, c->greatest, c->count ? (double)c->total / c->count : 0.0, c->count);
    for (uint64_t bucket = 0; bucket < BUCKETS; bucket++) {
        uint64_t shift = bucket < (2 << SUB_BITS) ? 0 : (bucket >> SUB_BITS) - 1;

        if (!c->buckets[bucket])
            continue;
        printf("%s\"%" PRIu64 "\": %" PRIu64, comma, (bucket - (shift << SUB_BITS)) << shift, c->buckets[bucket]);
        comma = ", ";
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    struct client c = { .block_size = 0 };
    struct rusage from;
    uint64_t begin;
    int64_t size;

    if (argc != 8) {
        fprintf(stderr, "usage: nbd_client URI WORKLOAD BLOCK_SIZE DEPTH WARMUP_MS MEASURED_MS SEED\n");
        return 2;
    }
    c.sequential = strncmp(argv[2], "rand", 4) != 0;
    c.writing = strstr(argv[2], "write") != NULL;
    c.block_size = strtoull(argv[3], NULL, 10);
    c.depth = strtoul(argv[4], NULL, 10);
    c.dice = strtoull(argv[7], NULL, 10) * 2 + 1;
    c.nbd = nbd_create();
    if (!c.nbd || nbd_connect_uri(c.nbd, argv[1]) == -1 || (size = nbd_get_size(c.nbd)) == -1)
        fail("connect");
    c.blocks = (uint64_t)size / c.block_size;

    struct slot *slots = calloc(c.depth, sizeof(*slots));
    for (unsigned i = 0; slots && i < c.depth; i++) {
        slots[i].client = &c;
        slots[i].buffer = malloc(c.block_size);
        if (!slots[i].buffer)
            fail("memory");
        memset(slots[i].buffer, 0x5a, c.block_size);
    }
    if (!slots)
        fail("memory");

    run(&c, slots, strtoull(argv[5], NULL, 10));
    puts("begin");
    fflush(stdout);
    if (getchar() == EOF)
        return 1;
    getrusage(RUSAGE_SELF, &from);
    begin = now_ns();
    run(&c, slots, strtoull(argv[6], NULL, 10));
    report(&c, now_ns() - begin, &from);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    nbd_close(c.nbd);
    return 0;
}
