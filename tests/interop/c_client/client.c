/*
 * A virtual disk client in C, written from docs/transport.md alone: the proof that the page is enough.
 *
 *     client SOCKET VOLUME shm|socket
 *
 * It attaches the volume, asks for its capacity, writes a pattern over the disk with eight requests under way,
 * flushes, reads everything back and compares it, tries the end of the disk and an operation that is not offered, and
 * prints one line of counts. Exit status: 0 all well, 1 refused or wrong, 2 usage.
 *
 * Section numbers are those of docs/transport.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    PAGE = 8192,
    SLOTS = 64,          /* map table, in page 0 */
    RING_PAGE = 1,       /* ring, in page 1 and slot 1 */
    ENTRIES = 16,
    ENTRY = 64,          /* header, payload, one cookie */
    DEPTH = 8,           /* requests under way */
    BUFFER_PAGES = 4,    /* longest request: 32 KiB */
    FIRST_BUFFER = 2,    /* slot of the first buffer */
    PAGES = FIRST_BUFFER + DEPTH * BUFFER_PAGES,
    DATAGRAM = 65536,
    PACKET = 64,
    PIECE = 56,
};

enum { HELLO = 1, ANSWER, QUEUE_CONFIGURED, MAP_TABLE, COPY, COPY_DONE };
enum { EOK = 0, ENORADDR = 2, EBADPGSZ = 4, HV_EINVAL = 6, EBADALIGN = 8, ENOACCESS = 10, ENOMAP = 14 };
enum { R = 0x10, W = 0x20, CR = 0x200, CW = 0x400 };
enum { CTRL = 1, DATA = 2, INFO = 1, ACK = 2 };
enum { VER = 1, RTS, RTR, RDX };
enum { VER_INFO = 1, ATTR_INFO = 2, DRING_REG = 3, VIO_RDX = 5, DRING_DATA = 0x42 };
enum { FREE = 1, READY, ACCEPTED, DONE };
enum { BREAD = 1, BWRITE = 2, FLUSH = 3, GET_DEVID = 0x0b, GET_CAPACITY = 0x11 };

static const uint32_t SID = 0x1d0a5eed;

static int sock;
static int shared;
static uint8_t *memory;
static uint32_t sent_seqid, received_seqid; /* of the last message packet each way */
static uint64_t seq_num;
static uint64_t ring_ident, disk_blocks, block_size, max_blocks, operations;
static unsigned long requests, bytes_written, bytes_verified, copies;

/* ---- errors and integers ------------------------------------------------------------------------------------- */

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void put(uint8_t *at, int size, uint64_t value)
{
    while (size-- > 0) {
        at[size] = (uint8_t)value;
        value >>= 8;
    }
}

static uint64_t get(const uint8_t *at, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

/* ---- datagrams (2): what does not fit into the socket waits here, while we go on receiving ---------------------- */

struct datagram {
    struct datagram *next;
    size_t size;
    uint8_t data[];
};

static struct datagram *outbox, **outbox_end = &outbox;
static uint8_t inbox[4 * DEPTH][PACKET];
static unsigned inbox_head, inbox_tail;
static int peer_configured;

static void send_datagram(const uint8_t *data, size_t size)
{
    struct datagram *item = malloc(sizeof *item + size);
    if (!item)
        die("out of memory");
    item->next = NULL;
    item->size = size;
    memcpy(item->data, data, size);
    *outbox_end = item;
    outbox_end = &item->next;
}

static void flush_outbox(void)
{
    while (outbox) {
        struct datagram *item = outbox;
        if (send(sock, item->data, item->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN)
                return;
            die("send: %s", strerror(errno));
        }
        outbox = item->next;
        if (!outbox)
            outbox_end = &outbox;
        free(item);
    }
}

static void begin_record(uint8_t *record, int type, size_t size)
{
    memset(record, 0, size);
    put(record, 2, (uint64_t)type);
    put(record + 4, 4, size);
}

static void send_record(uint8_t *record, size_t size)
{
    if (size == PACKET)
        memset(record + size, 0, 8);
    send_datagram(record, size == PACKET ? size + 8 : size);
}

/* ---- memory (3) ---------------------------------------------------------------------------------------------- */

static void make_memory(int *descriptor)
{
    size_t size = (size_t)PAGES * PAGE;
    if (shared) {
        int fd = memfd_create("c_client", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t)size) || posix_fallocate(fd, 0, (off_t)size) ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
            die("shared memory: %s", strerror(errno));
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        *descriptor = fd;
    } else {
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (memory == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    /* Slots in order, but the buffers' pages the other way round: nothing below may rely on neighbours. */
    for (uint64_t slot = RING_PAGE; slot < PAGES; slot++) {
        uint64_t page = slot < FIRST_BUFFER ? slot : PAGES - 1 - (slot - FIRST_BUFFER);
        put(memory + slot * 16, 8, page * PAGE | R | W | CR | CW);
    }
    for (int i = 0; i < ENTRIES; i++)
        memory[RING_PAGE * PAGE + i * ENTRY] = FREE;
}

/* Where a cookie address is, for a number of bytes that this page still holds. */
static int resolve(uint64_t addr, uint64_t need, uint8_t **where, size_t *left)
{
    uint64_t slot = (addr & ((1ULL << 60) - 1)) / PAGE, offset = addr % PAGE;
    if (slot >= SLOTS)
        return ENOMAP;
    uint64_t mte = get(memory + slot * 16, 8), ra = mte & 0x00ffffffffffe000ULL;
    if (!(mte & 0x7f0))
        return ENOMAP;
    if ((mte & 15) != addr >> 60)
        return EBADPGSZ;
    if ((mte & need) != need)
        return ENOACCESS;
    if (ra + PAGE > (uint64_t)PAGES * PAGE)
        return ENORADDR;
    *where = memory + ra + offset;
    *left = PAGE - offset;
    return EOK;
}

/* Copy between our own bytes and a buffer of ours, through its cookie address. */
static void copy_buffer(uint64_t addr, uint8_t *bytes, size_t size, int in)
{
    while (size) {
        uint8_t *where;
        size_t left;
        if (resolve(addr, R, &where, &left))
            die("buffer at cookie %llx", (unsigned long long)addr);
        if (left > size)
            left = size;
        memcpy(in ? bytes : where, in ? where : bytes, left);
        addr += left;
        bytes += left;
        size -= left;
    }
}

/* A COPY of the server (2): one page at most, as the hypervisor does it. */
static void serve_copy(const uint8_t *record, size_t size)
{
    static uint8_t done[24 + PAGE + 8];
    uint64_t direction = get(record + 12, 4), addr = get(record + 16, 8), nbytes = get(record + 24, 4);
    uint8_t *where = NULL;
    size_t left = 0;
    int status;

    if (size != 32 + (direction == 1 ? nbytes : 0))
        die("COPY of %zu bytes", size);
    if (direction > 1 || !nbytes)
        status = HV_EINVAL;
    else if ((addr | nbytes) % 8)
        status = EBADALIGN;
    else
        status = resolve(addr, direction ? CW : CR, &where, &left);
    size_t moved = status ? 0 : left < nbytes ? left : nbytes;
    size_t length = 24 + (direction == 0 ? moved : 0);
    begin_record(done, COPY_DONE, length);
    memcpy(done + 8, record + 8, 4);
    put(done + 12, 4, (uint64_t)status);
    put(done + 16, 4, moved);
    if (moved)
        memcpy(direction ? where : done + 24, direction ? record + 32 : where, moved);
    send_record(done, length);
    copies++;
}

/* ---- receiving ------------------------------------------------------------------------------------------------- */

static void receive_datagram(void)
{
    static uint8_t data[DATAGRAM];
    struct iovec part = {data, sizeof data};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1}; /* no room for descriptors: the kernel drops them */
    ssize_t size = recvmsg(sock, &header, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        die("the server hung up%s%s", size ? ": " : "", size ? strerror(errno) : "");
    if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        die("datagram with descriptors, or too long");
    if (size == PACKET) {
        if (inbox_tail - inbox_head == 4 * DEPTH)
            die("more packets than answers are due");
        memcpy(inbox[inbox_tail++ % (4 * DEPTH)], data, PACKET);
        return;
    }
    size_t length = size < 8 ? 0 : get(data + 4, 4);
    if (length != (size_t)size && !(length == PACKET && size == PACKET + 8))
        die("record of %zd bytes says %zu", size, length);
    switch (get(data, 2)) {
    case QUEUE_CONFIGURED:
        if (length != 16 || !get(data + 8, 4) || peer_configured++)
            die("the link was reset");
        break;
    case COPY:
        if (length < 32)
            die("COPY of %zu bytes", length);
        serve_copy(data, length);
        break;
    default:
        die("record of type %u", (unsigned)get(data, 2));
    }
}

static void pump(void)
{
    flush_outbox();
    struct pollfd wait = {.fd = sock, .events = (short)(POLLIN | (outbox ? POLLOUT : 0))};
    int ready = poll(&wait, 1, 20000);
    if (ready < 0)
        die("poll: %s", strerror(errno));
    if (!ready)
        die("the server is silent");
    if (wait.revents & ~POLLOUT)
        receive_datagram();
}

static const uint8_t *next_packet(void)
{
    while (inbox_head == inbox_tail)
        pump();
    return inbox[inbox_head++ % (4 * DEPTH)];
}

/* ---- rendezvous (1) -------------------------------------------------------------------------------------------- */

static void send_hello(const char *volume, int descriptor)
{
    uint8_t hello[64 + 255];
    size_t length = strlen(volume);
    if (!length || length > 255)
        die("a volume name has 1 to 255 bytes");
    begin_record(hello, HELLO, 64 + length);
    put(hello + 8, 4, 0x4c446f6d);
    put(hello + 12, 2, 1);
    put(hello + 16, 2, shared ? 1 : 2);
    put(hello + 18, 2, length);
    put(hello + 24, 8, shared ? (uint64_t)PAGES * PAGE : 0);
    if (getrandom(hello + 32, 32, 0) != 32)
        die("getrandom: %s", strerror(errno));
    memcpy(hello + 64, volume, length);

    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct iovec part = {hello, 64 + length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (shared) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_LEN(sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
    }
    if (sendmsg(sock, &message, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        die("hello: %s", strerror(errno));
}

static void receive_answer(void)
{
    uint8_t answer[72 + 1024];
    ssize_t size = recv(sock, answer, sizeof answer, 0);
    if (size < 0 && errno == ECONNRESET) /* refused with our hello unread */
        size = recv(sock, answer, sizeof answer, 0);
    if (size < 72 || get(answer, 2) != ANSWER || get(answer + 4, 4) != (uint64_t)size ||
        get(answer + 8, 4) != 0x4c446f6d || get(answer + 28, 4) != (uint64_t)size - 72)
        die("no answer that I understand");
    if (get(answer + 16, 4))
        die("refused: %.*s (%s)", (int)size - 72, (char *)answer + 72, strerror((int)get(answer + 16, 4)));
    if (get(answer + 20, 4))
        die("the server agreed to what was not offered");
}

static void attach(const char *path, const char *volume)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int descriptor = -1;
    if (strlen(path) >= sizeof address.sun_path)
        die("a socket path has at most 107 bytes");
    strcpy(address.sun_path, path);
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address))
        die("%s: %s", path, strerror(errno));
    make_memory(&descriptor);
    send_hello(volume, descriptor);
    if (descriptor >= 0)
        close(descriptor);
    receive_answer();

    uint8_t record[24];
    begin_record(record, MAP_TABLE, 24);
    put(record + 8, 4, SLOTS);
    send_record(record, 24);
    begin_record(record, QUEUE_CONFIGURED, 16);
    put(record + 8, 4, 512);
    send_record(record, 16);
}

/* ---- the link (4.1) -------------------------------------------------------------------------------------------- */

static void expect_control(int ctrl, int env, uint32_t seqid)
{
    const uint8_t *packet = next_packet();
    if (packet[0] != CTRL || packet[1] != INFO || packet[2] != ctrl || packet[3] != env ||
        get(packet + 4, 4) != seqid)
        die("link: got %02x %02x %02x %02x while waiting for %d", packet[0], packet[1], packet[2], packet[3], ctrl);
    if (ctrl == VER && get(packet + 8, 4) != 0x00010000)
        die("link version %llx", (unsigned long long)get(packet + 8, 4));
}

static void answer_control(int stype, int ctrl, int env, uint32_t payload)
{
    uint8_t packet[PACKET] = {CTRL, (uint8_t)stype, (uint8_t)ctrl, (uint8_t)env};
    put(packet + 8, 4, payload);
    send_datagram(packet, PACKET);
}

static void bring_up_link(void)
{
    expect_control(VER, 0, 0);
    answer_control(ACK, VER, 0, 0x00010000);
    expect_control(RTS, 1, 0);
    answer_control(INFO, RTR, 1, 0);
    expect_control(RDX, 0, 1);
    received_seqid = 1;
    sent_seqid = 0;
}

static void send_message(const uint8_t *message, size_t size)
{
    uint8_t packet[PACKET] = {DATA, INFO, 0, (uint8_t)(0xc0 + size)};
    put(packet + 4, 4, ++sent_seqid);
    memcpy(packet + 8, message, size);
    send_datagram(packet, PACKET);
}

static void receive_message(uint8_t *message, size_t size)
{
    const uint8_t *packet = next_packet();
    if (packet[0] != DATA || packet[1] != INFO || packet[2] || packet[3] != 0xc0 + size ||
        get(packet + 4, 4) != ++received_seqid)
        die("packet %02x %02x %02x %02x in place of a message of %zu bytes", packet[0], packet[1], packet[2],
            packet[3], size);
    memcpy(message, packet + 8, size);
}

/* ---- messages (4.2) -------------------------------------------------------------------------------------------- */

static void begin_message(uint8_t *message, int msgtype, int envelope)
{
    memset(message, 0, PIECE);
    message[0] = (uint8_t)msgtype;
    message[1] = INFO;
    put(message + 2, 2, (uint64_t)envelope);
    put(message + 4, 4, SID);
}

/* Send a control message and replace it by its ACK. */
static void converse(uint8_t *message, size_t size)
{
    uint8_t answer[PIECE];
    send_message(message, size);
    receive_message(answer, size);
    if (answer[1] != ACK || memcmp(answer + 2, message + 2, 6))
        die("message %u was answered by subtype %u", (unsigned)get(message + 2, 2), answer[1]);
    memcpy(message, answer, size);
}

static void negotiate(void)
{
    uint8_t message[PIECE];

    begin_message(message, CTRL, VER_INFO);
    put(message + 8, 4, 0x00010001);
    message[12] = 3;
    converse(message, 56);
    if (get(message + 8, 4) != 0x00010001 || message[12] != 4)
        die("version %llx, class %u", (unsigned long long)get(message + 8, 4), message[12]);

    begin_message(message, CTRL, ATTR_INFO);
    message[8] = 3;
    put(message + 12, 4, 512);
    put(message + 32, 8, BUFFER_PAGES * PAGE / 512);
    converse(message, 56);
    block_size = get(message + 12, 4);
    operations = get(message + 16, 8);
    disk_blocks = get(message + 24, 8);
    max_blocks = get(message + 32, 8);
    if (!block_size || block_size > PAGE || !disk_blocks || !max_blocks)
        die("attributes make no sense");
    if (max_blocks > BUFFER_PAGES * PAGE / block_size)
        max_blocks = BUFFER_PAGES * PAGE / block_size;

    begin_message(message, CTRL, DRING_REG);
    put(message + 16, 4, ENTRIES);
    put(message + 20, 4, ENTRY);
    put(message + 24, 2, 3);
    put(message + 28, 4, 1);
    put(message + 32, 8, RING_PAGE * PAGE);
    put(message + 40, 8, PAGE);
    converse(message, 48);
    ring_ident = get(message + 8, 8);

    begin_message(message, CTRL, VIO_RDX);
    converse(message, 56);
}

/* ---- requests (4.3) -------------------------------------------------------------------------------------------- */

struct request {
    int operation;
    uint64_t addr, nbytes;
};

static uint64_t buffer_cookie(unsigned index)
{
    return (FIRST_BUFFER + (uint64_t)(index % DEPTH) * BUFFER_PAGES) * PAGE;
}

static void announce(unsigned index)
{
    uint8_t message[PIECE];
    begin_message(message, DATA, DRING_DATA);
    put(message + 8, 8, ++seq_num);
    put(message + 16, 8, ring_ident);
    put(message + 24, 4, index);
    put(message + 28, 4, index);
    send_message(message, 56);
}

static void submit(unsigned index, const struct request *request)
{
    uint8_t *entry = memory + RING_PAGE * PAGE + index * ENTRY;
    if (__atomic_load_n(entry, __ATOMIC_ACQUIRE) != FREE)
        die("entry %u is not free", index);
    memset(entry + 1, 0, ENTRY - 1);
    entry[1] = 0x80;
    put(entry + 8, 8, requests);
    entry[16] = (uint8_t)request->operation;
    entry[17] = 0xff;
    put(entry + 20, 4, 0xffffffff);
    put(entry + 24, 8, request->addr);
    put(entry + 32, 8, request->nbytes);
    if (request->nbytes) {
        put(entry + 40, 4, 1);
        put(entry + 48, 8, buffer_cookie(index));
        put(entry + 56, 8, (request->nbytes + 7) & ~7ULL);
    }
    __atomic_store_n(entry, READY, __ATOMIC_RELEASE);
    requests++;
    announce(index);
}

/* Wait for the answer of the oldest request, which is in entry `index`. */
static uint32_t finish(unsigned index, uint64_t number, uint64_t *nbytes)
{
    uint8_t *entry = memory + RING_PAGE * PAGE + index * ENTRY, answer[PIECE];
    receive_message(answer, 56);
    if (answer[1] != ACK || get(answer + 2, 2) != DRING_DATA || get(answer + 4, 4) != SID ||
        get(answer + 8, 8) != number || get(answer + 24, 4) != index || get(answer + 28, 4) != index)
        die("answer %llu, subtype %u, entries %llu to %llu in place of the ACK of entry %u",
            (unsigned long long)get(answer + 8, 8), answer[1], (unsigned long long)get(answer + 24, 4),
            (unsigned long long)get(answer + 28, 4), index);
    if (__atomic_load_n(entry, __ATOMIC_ACQUIRE) != DONE)
        die("entry %u is acknowledged and not done", index);
    *nbytes = get(entry + 32, 8);
    uint32_t status = (uint32_t)get(entry + 20, 4);
    __atomic_store_n(entry, FREE, __ATOMIC_RELEASE);
    return status;
}

static uint32_t run_one(int operation, uint64_t addr, uint64_t *nbytes)
{
    unsigned index = (unsigned)(seq_num % ENTRIES);
    struct request request = {operation, addr, *nbytes};
    submit(index, &request);
    return finish(index, seq_num, nbytes);
}

/* What a byte of the disk should be: any block tells where it belongs. */
static void pattern(uint64_t offset, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint64_t word = (offset + i) / 8 * 0x9e3779b97f4a7c15ULL;
        bytes[i] = (uint8_t)(word >> 8 * ((offset + i) % 8));
    }
}

static void check_done(const struct request *request, unsigned index, uint32_t status, uint64_t nbytes)
{
    static uint8_t expected[BUFFER_PAGES * PAGE], found[BUFFER_PAGES * PAGE];
    if (status || nbytes != request->nbytes)
        die("operation %d at block %llu: status %u, %llu bytes", request->operation,
            (unsigned long long)request->addr, status, (unsigned long long)nbytes);
    if (request->operation == BWRITE) {
        bytes_written += nbytes;
        return;
    }
    pattern(request->addr * block_size, expected, nbytes);
    copy_buffer(buffer_cookie(index), found, nbytes, 1);
    if (memcmp(expected, found, nbytes))
        die("block %llu: other data than written", (unsigned long long)request->addr);
    bytes_verified += nbytes;
}

/* Go over the whole disk with requests of changing length, DEPTH of them under way. */
static void sweep(int operation)
{
    static uint8_t bytes[BUFFER_PAGES * PAGE];
    struct request under_way[DEPTH];
    uint64_t first = seq_num, next = 0;
    unsigned long submitted = 0, finished = 0;

    while (next < disk_blocks || finished < submitted) {
        while (next < disk_blocks && submitted - finished < DEPTH) {
            static const unsigned lengths[] = {1, 8, 64, 3, 128, 17, 32};
            unsigned slot = (unsigned)((first + submitted) % ENTRIES);
            uint64_t blocks = lengths[submitted % 7] * 512 / block_size;
            if (!blocks)
                blocks = 1;
            if (blocks > max_blocks)
                blocks = max_blocks;
            if (blocks > disk_blocks - next)
                blocks = disk_blocks - next;
            struct request request = {operation, next, blocks * block_size};
            memset(bytes, 0xee, sizeof bytes);
            if (operation == BWRITE)
                pattern(next * block_size, bytes, request.nbytes);
            copy_buffer(buffer_cookie(slot), bytes, request.nbytes, 0);
            under_way[submitted % DEPTH] = request;
            submit(slot, &request);
            submitted++;
            next += blocks;
        }
        uint64_t nbytes;
        unsigned slot = (unsigned)((first + finished) % ENTRIES);
        uint32_t status = finish(slot, first + finished + 1, &nbytes);
        check_done(&under_way[finished % DEPTH], slot, status, nbytes);
        finished++;
    }
}

static void check_capacity(void)
{
    uint8_t capacity[16];
    uint64_t nbytes = 16;
    unsigned index = (unsigned)(seq_num % ENTRIES);
    uint32_t status = run_one(GET_CAPACITY, 0, &nbytes);
    copy_buffer(buffer_cookie(index), capacity, 16, 1);
    if (status || nbytes != 16 || get(capacity, 4) != block_size || get(capacity + 8, 8) != disk_blocks)
        die("capacity: status %u, %llu blocks of %llu bytes", status, (unsigned long long)get(capacity + 8, 8),
            (unsigned long long)get(capacity, 4));
}

/* A read across the end is short, and the rest of its buffer zero; behind the end it has no bytes at all. */
static void check_end(void)
{
    uint8_t expected[2 * PAGE] = {0}, found[2 * PAGE];
    unsigned index = (unsigned)(seq_num % ENTRIES);
    uint64_t nbytes = 2 * block_size;
    memset(found, 0xee, sizeof found);
    copy_buffer(buffer_cookie(index), found, 2 * block_size, 0);
    uint32_t status = run_one(BREAD, disk_blocks - 1, &nbytes);
    pattern((disk_blocks - 1) * block_size, expected, block_size);
    copy_buffer(buffer_cookie(index), found, 2 * block_size, 1);
    if (status || nbytes != block_size || memcmp(expected, found, 2 * block_size))
        die("read across the end: status %u, %llu bytes", status, (unsigned long long)nbytes);
    nbytes = block_size;
    status = run_one(BREAD, disk_blocks, &nbytes);
    if (status || nbytes)
        die("read behind the end: status %u, %llu bytes", status, (unsigned long long)nbytes);
}

static void check_refused_operation(void)
{
    uint64_t nbytes = 144;
    uint32_t status = run_one(GET_DEVID, 0, &nbytes);
    if (operations >> GET_DEVID & 1 ? status != 0 : status != 48)
        die("an operation that is not offered: status %u", status);
}

int main(int argc, char **argv)
{
    if (argc != 4 || (strcmp(argv[3], "shm") && strcmp(argv[3], "socket"))) {
        fputs("usage: client SOCKET VOLUME shm|socket\n", stderr);
        return 2;
    }
    shared = !strcmp(argv[3], "shm");
    attach(argv[1], argv[2]);
    bring_up_link();
    negotiate();
    check_capacity();
    if (operations >> BWRITE & 1) {
        uint64_t nothing = 0;
        sweep(BWRITE);
        if (run_one(FLUSH, 0, &nothing))
            die("flush failed");
        sweep(BREAD);
        check_end();
    }
    check_refused_operation();
    printf("blocks=%llu block_size=%llu requests=%lu written=%lu verified=%lu copies=%lu\n",
           (unsigned long long)disk_blocks, (unsigned long long)block_size, requests, bytes_written, bytes_verified,
           copies);
    return 0;
}
