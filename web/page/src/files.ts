/** Files of a drop, also of folders. */

export function isVideo(file: File): boolean {
  return file.type.startsWith("video/");
}

const PICTURES = /\.(jpe?g|png|webp|avif|gif|bmp|heic)$/i;

/** The files of a drop; of folders, the pictures at any depth, in the order of their names. */
export async function filesOf(data: DataTransfer | null): Promise<File[]> {
  const entries = [...(data?.items ?? [])].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...(data?.files ?? [])];
  const found = await Promise.all(entries.map((entry) => (entry ? filesOfEntry(entry, true) : [])));
  return found.flat();
}

async function filesOfEntry(entry: FileSystemEntry, isTop: boolean): Promise<File[]> {
  if (entry.isFile) {
    if (!isTop && !PICTURES.test(entry.name)) return [];
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const entries: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name));
  return (await Promise.all(entries.map((one) => filesOfEntry(one, false)))).flat();
}
