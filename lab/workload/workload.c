/* The program that a lab's guest runs. It counts over TCP, rewrites memory, writes numbered and checksummed blocks to
 * its first disk and reads them back, and answers a health port. Kernel parameters decide how much of each:
 *   lab.count_ms=5                one count every 5 ms, sent as a line to every client of port 7000
 *   lab.dirty=SIZE:RATE:CLASS,…   rewrite SIZE MiB at RATE MiB/s with zero, text or random content (several at once)
 *   lab.writes=50                 blocks written per second to /dev/vda, each acknowledged only once it is on disk
 * The layout of a block and the order of the slots are repeated in lab/witness.py, which checks them from outside. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, SLOTS = 4096, AT_ONCE = 64, COUNT_PORT = 7000, HEALTH_PORT = 7001 };
static const uint64_t MAGIC = 0x46455252594d414eULL; /* "FERRYMAN" */

static volatile uint64_t count;        /* the number sent last */
static volatile uint64_t acknowledged; /* the newest sequence number that is on disk */
static volatile uint64_t wrong;        /* blocks that were read back wrong, or write errors */
static volatile uint64_t rewritten;    /* bytes of memory rewritten */
static char parameters[4096];

static void pause_for(double seconds) {
    struct timespec span = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&span, &span) && errno == EINTR) {}
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static const char *parameter(const char *name, const char *otherwise) {
    char *at = strstr(parameters, name);
    return at ? at + strlen(name) : otherwise;
}

static uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* ---- counting ---- */

static void *count_up(void *unused) {
    double interval = atof(parameter("lab.count_ms=", "5")) / 1000, next = now();
    for (;;) {
        count++;
        next += interval;
        double left = next - now();
        if (left > 0) pause_for(left);
        else if (left < -1) next = now(); /* paused for long: go on from here, do not race to catch up */
    }
    return unused;
}

static void *serve_counts(void *socket_as_pointer) {
    int client = (int)(intptr_t)socket_as_pointer;
    double look = atof(parameter("lab.count_ms=", "5")) / 5000;
    uint64_t sent = count;
    char line[32];
    for (;;) {
        while (sent < count) {
            int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)++sent);
            if (send(client, line, length, MSG_NOSIGNAL) != length) {
                close(client);
                return NULL;
            }
        }
        pause_for(look);
    }
}

static void *serve_health(void *socket_as_pointer) {
    int client = (int)(intptr_t)socket_as_pointer;
    char request[1024], body[256], answer[512];
    if (recv(client, request, sizeof request, 0) > 0) {
        int length = snprintf(body, sizeof body,
            "{\"count\": %llu, \"acknowledged\": %llu, \"wrong\": %llu, \"rewritten\": %llu}\n",
            (unsigned long long)count, (unsigned long long)acknowledged, (unsigned long long)wrong,
            (unsigned long long)rewritten);
        length = snprintf(answer, sizeof answer,
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", length, body);
        send(client, answer, length, MSG_NOSIGNAL);
    }
    close(client);
    return NULL;
}

struct service { int port; void *(*serve)(void *); };

static void *listen_on(void *argument) {
    struct service *service = argument;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(service->port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("workload: listen");
        exit(1);
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_t thread;
        if (pthread_create(&thread, NULL, service->serve, (void *)(intptr_t)client)) close(client);
        else pthread_detach(thread);
    }
}

/* ---- memory ---- */

struct region { size_t bytes; double rate; char class; };

static void fill(uint8_t *page, char class, uint64_t seed) {
    if (class == 'z') memset(page, 0, BLOCK);
    else if (class == 't') { /* printed once and copied: printing is most of what a guest does under TCG */
        char line[32] = {0};
        snprintf(line, sizeof line, "line %016llx of text\n", (unsigned long long)(seed & 0xffff));
        for (int at = 0; at < BLOCK; at += 32) memcpy(page + at, line, sizeof line);
    }
    else
        for (int at = 0; at < BLOCK; at += 8) *(uint64_t *)(page + at) = seed = mix(seed);
    *(uint64_t *)page = seed; /* every rewrite changes the page, also of zeroes */
}

static void *rewrite(void *argument) {
    struct region *region = argument;
    uint8_t *memory = mmap(NULL, region->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    uint64_t pages = 0;
    for (;;)
        for (size_t at = 0; at + BLOCK <= region->bytes; at += BLOCK) {
            fill(memory + at, region->class, mix(++pages));
            rewritten += BLOCK;
            if (pages * BLOCK <= region->bytes) continue; /* the first pass goes as fast as it can */
            if (region->rate <= 0) pause();
            if (pages % 64 == 0) { /* by the pages so far, so that a pause does not end in a race to catch up */
                pause_for(64.0 * BLOCK / region->rate > 0.0005 ? 64.0 * BLOCK / region->rate : 0.0005);
            }
        }
}

static void rewrite_memory(void) {
    char text[512];
    snprintf(text, sizeof text, "%s", parameter("lab.dirty=", ""));
    text[strcspn(text, " \n")] = 0;
    for (char *rest = text, *item; (item = strsep(&rest, ","));) {
        double mib = 0, rate = 0;
        char class = 'r';
        if (sscanf(item, "%lf:%lf:%c", &mib, &rate, &class) < 1 || mib <= 0) continue;
        struct region *region = malloc(sizeof *region);
        *region = (struct region){(size_t)(mib * 1048576), rate * 1048576, class};
        pthread_t thread;
        pthread_create(&thread, NULL, rewrite, region);
    }
}

/* ---- disk ----
 * Sequence number s goes to slot mix(s) % SLOTS. A block: magic, slot, s, filler by mix(s + i), and in its last eight
 * bytes the CRC-32 (as zlib's) of all before. */

static uint32_t remainders[256]; /* of each byte: bit by bit would be most of what a writing guest does under TCG */

static void fill_remainders(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320 : 0);
        remainders[byte] = crc;
    }
}

static uint64_t digest(const uint8_t *block) {
    uint32_t crc = 0xffffffff;
    for (int at = 0; at < BLOCK - 8; at++) crc = (crc >> 8) ^ remainders[(crc ^ block[at]) & 0xff];
    return crc ^ 0xffffffff;
}

static void make_block(uint8_t *block, uint64_t slot, uint64_t sequence) {
    uint64_t *words = (uint64_t *)block;
    words[0] = MAGIC;
    words[1] = slot;
    words[2] = sequence;
    for (int i = 3; i < BLOCK / 8 - 1; i++) words[i] = i < 64 ? mix(sequence + i) : words[i % 61 + 3];
    words[BLOCK / 8 - 1] = digest(block);
}

static int sound(const uint8_t *block, uint64_t slot, uint64_t at_least) {
    const uint64_t *words = (const uint64_t *)block;
    return words[0] == MAGIC && words[1] == slot && words[2] >= at_least && words[BLOCK / 8 - 1] == digest(block);
}

static void *write_blocks(void *unused) {
    double rate = atof(parameter("lab.writes=", "0"));
    static uint64_t newest[SLOTS];
    int disk = open("/dev/vda", O_RDWR | O_DIRECT | O_DSYNC);
    if (rate <= 0 || disk < 0) return unused;
    uint8_t *block, *read_back;
    if (posix_memalign((void **)&block, BLOCK, BLOCK) || posix_memalign((void **)&read_back, BLOCK, AT_ONCE * BLOCK)) return unused;
    uint64_t sequence = 0;
    for (uint64_t first = 0; first < SLOTS; first += AT_ONCE) { /* after a restart: go on from what is on disk */
        if (pread(disk, read_back, AT_ONCE * BLOCK, first * BLOCK) != AT_ONCE * BLOCK) continue;
        for (uint64_t slot = first; slot < first + AT_ONCE; slot++) {
            uint8_t *there = read_back + (slot - first) * BLOCK;
            if (!sound(there, slot, 1)) continue;
            newest[slot] = ((uint64_t *)there)[2];
            if (newest[slot] > sequence) sequence = newest[slot];
        }
    }
    acknowledged = sequence;
    for (;;) {
        uint64_t slot = mix(++sequence) % SLOTS, check = mix(sequence * 31) % SLOTS;
        make_block(block, slot, sequence);
        if (pwrite(disk, block, BLOCK, slot * BLOCK) != BLOCK) wrong++;
        newest[slot] = sequence;
        acknowledged = sequence;
        if (newest[check] && (pread(disk, read_back, BLOCK, check * BLOCK) != BLOCK || !sound(read_back, check, newest[check])))
            wrong++;
        pause_for(1 / rate);
    }
}

int main(void) {
    FILE *file = fopen("/proc/cmdline", "r");
    if (!file || !fgets(parameters, sizeof parameters, file)) return 1;
    fclose(file);
    signal(SIGPIPE, SIG_IGN);
    fill_remainders();
    pthread_t thread;
    static struct service counts = {COUNT_PORT, serve_counts}, health = {HEALTH_PORT, serve_health};
    pthread_create(&thread, NULL, count_up, NULL);
    pthread_create(&thread, NULL, write_blocks, NULL);
    pthread_create(&thread, NULL, listen_on, &counts);
    rewrite_memory();
    listen_on(&health);
}
