//! A folder as an object store that answers with something else, once.

use std::fmt;
use std::path::Path as Folder;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Of which file the next answer is another one: that of another file, which may not be there.
pub(crate) type Odd = Arc<Mutex<Option<(&'static str, &'static str)>>>;

#[derive(Debug)]
pub(crate) struct OddStore {
    folder: LocalFileSystem,
    odd: Odd,
}

impl OddStore {
    pub(crate) fn new(folder: &Folder, odd: &Odd) -> Self {
        Self {
            folder: LocalFileSystem::new_with_prefix(folder).unwrap(),
            odd: Arc::clone(odd),
        }
    }
}

impl fmt::Display for OddStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "odd {}", self.folder)
    }
}

#[async_trait]
impl ObjectStore for OddStore {
    async fn put_opts(&self, to: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.folder.put_opts(to, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.folder.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        let other = {
            let mut odd = self.odd.lock().unwrap();
            let other = odd.filter(|(file, _)| from.as_ref() == *file);
            other.map(|(_, other)| {
                *odd = None;
                Path::from(other)
            })
        };
        self.folder
            .get_opts(&other.unwrap_or(from.clone()), how)
            .await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.folder.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.folder.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.folder.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.folder.copy_opts(from, to, how).await
    }
}
