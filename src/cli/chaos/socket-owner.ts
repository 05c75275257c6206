/**
 * Which process holds a TCP connection of this machine, from the kernel's tables under /proc (proc(5)):
 * `net/tcp` gives the inode of the socket, `PID/fd` the sockets a process has open. It needs no privilege
 * for processes of one's own.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';

/** The one of `pids` that holds the loopback connection from `ownPort` to `remotePort`; null when none does. */
export async function ownerOf(
  ownPort: number,
  remotePort: number,
  pids: readonly number[],
): Promise<number | null> {
  const inode = await inodeOf(ownPort, remotePort);
  if (inode === null) return null;
  const name = `socket:[${inode}]`;
  for (const pid of pids) if (await holds(pid, name)) return pid;
  return null;
}

async function inodeOf(ownPort: number, remotePort: number): Promise<string | null> {
  for (const line of (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1)) {
    const [, own, remote, , , , , , , inode] = line.trim().split(/\s+/);
    if (portOf(own) === ownPort && portOf(remote) === remotePort) return inode ?? null;
  }
  return null;
}

/** Addresses are `ADDRESS:PORT` in hexadecimal. */
function portOf(address = ''): number {
  return Number.parseInt(address.slice(address.indexOf(':') + 1), 16);
}

async function holds(pid: number, name: string): Promise<boolean> {
  try {
    const folder = `/proc/${pid}/fd`;
    const links = (await readdir(folder)).map((fd) => readlink(`${folder}/${fd}`).catch(() => ''));
    return (await Promise.all(links)).includes(name);
  } catch {
    // The process has ended.
    return false;
  }
}
